"""Reading a run again and again says what reading it whole says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from made_runs import make_run, make_step, make_validation
from tunebook.book import reader as reader_module
from tunebook.book.events import EventWriter, read_events
from tunebook.book.places import RunFolder
from tunebook.book.reader import NUMBERS, RunReader
from tunebook.book.summary import measure
from tunebook.errors import BookError
from tunebook.records import ExampleLoss


def whole_and_read_agree(run: RunFolder, reader: RunReader) -> None:
    look, events = reader.look(), read_events(run)
    assert look.steps["step"].tolist() == [step.step for step in events.steps]
    assert look.steps["loss"].tolist() == [step.loss for step in events.steps]
    assert look.events.validations == events.validations
    assert look.events.states == events.states
    assert measure(run, look.totals()) == measure(run)


def test_every_look_agrees_with_reading_the_whole_run(book: Path) -> None:
    run = make_run(book, "run_1", state=None)
    reader = RunReader(run)
    whole_and_read_agree(run, reader)
    with EventWriter(run, 2) as events:
        # A second attempt goes back behind what the first one did.
        events.write("state", {"state": "running", "reason": "", "step": 6})
        whole_and_read_agree(run, reader)
        assert reader.look().superseded["step"].tolist() == [7, 8, 9, 10]
        for step in range(7, 13):
            events.write("step", make_step(step, 1.0))
            whole_and_read_agree(run, reader)
        events.write("validation", make_validation(12, 1.0))
    whole_and_read_agree(run, reader)
    whole_and_read_agree(run, RunReader(run))


def test_a_look_without_anything_new_is_the_same_one(book: Path) -> None:
    reader = RunReader(make_run(book, "run_1"))
    assert reader.look() is reader.look()


def test_a_torn_line_waits_for_its_rest(book: Path) -> None:
    run = make_run(book, "run_1", state=None)
    (path,) = run.events.iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:-40])
    reader = RunReader(run)
    before = reader.look()
    with path.open("ab") as file:
        file.write(data[-40:])
    assert reader.look().version > before.version
    whole_and_read_agree(run, reader)


def test_a_file_that_was_put_back_is_read_anew(book: Path) -> None:
    run = make_run(book, "run_1", steps=10)
    reader = RunReader(run)
    before = reader.look()
    (path,) = run.events.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:8]))
    assert reader.look().generation != before.generation
    whole_and_read_agree(run, reader)


def test_the_numbers_of_a_long_run_are_kept_and_never_trusted_blindly(book: Path) -> None:
    run = make_run(book, "run_1", steps=3000)
    RunReader(run).look()
    kept = book / ".tunebook" / "steps" / "run_1.npz"
    assert kept.exists()
    whole_and_read_agree(run, RunReader(run))
    with EventWriter(run, 2) as events:
        events.write("state", {"state": "running", "reason": "", "step": 3000})
        events.write("step", make_step(3001, 1.0))
    whole_and_read_agree(run, RunReader(run))
    for damaged in (b"", b"not zip", kept.read_bytes()[:-200]):
        kept.write_bytes(damaged)
        whole_and_read_agree(run, RunReader(run))


def test_what_is_no_number_is_nan_and_a_line_that_is_no_step_is_named(book: Path) -> None:
    run = make_run(book, "run_1", steps=0, state=None)
    with EventWriter(run, 2) as events:
        events.write("step", make_step(1, float("inf")))
    steps = RunReader(run).look().steps
    assert steps["loss"].tolist() == [float("inf")]
    assert steps["canary_loss"].tolist() != steps["canary_loss"].tolist()  # NaN: unknown
    assert all(len(steps[name]) == 1 for name in NUMBERS)
    with EventWriter(run, 3) as events:
        events.write("step", {"step": None, "examples": []})
    with pytest.raises(BookError, match="not a step"):
        RunReader(run).look()


def test_a_broken_line_is_named_by_its_number_in_the_file(book: Path) -> None:
    run = make_run(book, "run_1", state=None)
    reader = RunReader(run)
    reader.look()
    (path,) = run.events.iterdir()
    number = path.read_bytes().count(b"\n") + 1
    with path.open("ab") as file:
        file.write(b"rubbish\n")
    with pytest.raises(BookError, match=f"{path.name}:{number}: this line"):
        reader.look()


def test_a_file_read_in_pieces_is_the_same_run(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_PIECE_BYTES", 700)
    whole_and_read_agree(make_run(book, "run_1"), RunReader(RunFolder(book, "run_1")))


def test_the_rest_of_a_torn_line_is_never_read_as_a_line(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(book, "run_1", state=None)
    (path,) = run.events.iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:-40])

    def finish(*_: object) -> None:
        # The trainer ends its line just when what came before it was taken.
        if path.stat().st_size < len(data):
            with path.open("ab") as file:
                file.write(data[-40:])

    reader = RunReader(run)
    real = reader._take
    monkeypatch.setattr(reader, "_take", lambda rows: (real(rows), finish()))
    reader.look()
    whole_and_read_agree(run, reader)


def test_events_that_are_no_file_are_named(book: Path) -> None:
    run = make_run(book, "run_1")
    (run.events / "x.jsonl").mkdir()
    with pytest.raises(BookError, match="run run_1 cannot be read"):
        RunReader(run).look()


def test_documents_are_kept_of_the_last_validation_only_whichever_that_is(book: Path) -> None:
    run = make_run(book, "run_1", steps=3000, state=None)
    documents = tuple(ExampleLoss(f"sayings#{n}", 1.0, 10) for n in range(3))
    with EventWriter(run, 1) as events:
        for step in (3001, 3002, 3003):
            one = replace(make_validation(step, 1.0), per_document=documents)
            events.write("validation", one)
    reader = RunReader(run)

    def kept(by: RunReader) -> dict[int, int]:
        return {v.step: len(v.per_document) for v in by.look().events.validations[-3:]}

    assert kept(reader) == {3001: 0, 3002: 0, 3003: 3}
    # The copy of it that is kept in the book says the same.
    again = RunReader(run)
    assert kept(again) == {3001: 0, 3002: 0, 3003: 3}
    with EventWriter(run, 2) as events:
        events.write("state", {"state": "running", "reason": "", "step": 3002})
    for one in (reader, again, RunReader(run)):
        assert kept(one) == {3000: 0, 3001: 0, 3002: 3}
