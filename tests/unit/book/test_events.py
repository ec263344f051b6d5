from __future__ import annotations

import math
from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from made_runs import make_run, make_step, make_validation
from tunebook.book import events
from tunebook.book.events import (
    EventTail,
    EventWriter,
    cut_torn_lines,
    event_files,
    next_attempt,
    read_events,
)
from tunebook.book.places import RunFolder
from tunebook.errors import BookError, StorageError
from tunebook.records import Verdict


@pytest.fixture
def run(book: Path) -> RunFolder:
    folder = RunFolder(book, "r")
    folder.path.mkdir()
    return folder


def test_what_is_written_is_read_back_as_the_same_records(run: RunFolder) -> None:
    step, validation = make_step(3), make_validation(3, 1.5)
    with EventWriter(run, 1) as events:
        events.write("step", step)
        events.write("validation", validation)
        events.write("facts", {"device": "cpu", "kind": "laptop"})
    read = read_events(run)
    assert read.steps == (step,)
    assert read.validations == (validation,)
    assert read.facts == {"device": "cpu", "kind": "laptop"}


def test_numbers_that_are_not_finite_survive(run: RunFolder) -> None:
    verdict = Verdict("non_finite", 1, 2, "c", "certain", {"loss": -math.inf}, "n")
    with EventWriter(run, 1) as events:
        events.write("step", make_step(1, math.nan))
        events.write("step", make_step(2, math.inf))
        events.write("verdict", verdict)
    assert b'"loss":"NaN"' in event_files(run)[0].read_bytes()
    read = read_events(run)
    assert math.isnan(read.steps[0].loss)
    assert math.isnan(read.steps[0].examples[0].loss_sum)
    assert read.steps[1].loss == math.inf
    assert read.verdicts == (verdict,)
    assert math.isnan(dict(EventTail(run).poll())["step"]["loss"]) is False
    assert math.isnan(EventTail(run).poll()[0][1]["loss"])


def test_text_that_reads_like_a_number_stays_text(run: RunFolder) -> None:
    with EventWriter(run, 1) as events:
        events.write("facts", {"first_batch": [{"example": "a#1", "text": "NaN"}]})
    assert read_events(run).facts["first_batch"][0]["text"] == "NaN"


def test_a_last_line_torn_at_any_byte_is_ignored_and_can_be_cut(run: RunFolder) -> None:
    with EventWriter(run, 1) as events:
        events.write("step", make_step(1))
        events.write("step", make_step(2))
    path = event_files(run)[0]
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for stop in range(first, len(whole)):
        path.write_bytes(whole[:stop])
        assert [s.step for s in read_events(run).steps] == [1]
        cut_torn_lines(run)
        assert path.read_bytes() == whole[:first]


def test_a_writer_that_finds_a_torn_line_of_its_own_name_goes_on_after_the_last_whole_one(
    run: RunFolder,
) -> None:
    with EventWriter(run, 1) as events:
        events.write("step", make_step(1))
    path = event_files(run)[0]
    path.write_bytes(path.read_bytes() + b'{"kind":"st')
    with EventWriter(run, 2) as events:
        events.write("step", make_step(2))
    assert [s.step for s in read_events(run).steps] == [1, 2]
    assert b'"seq":1' in path.read_bytes()


def test_what_an_earlier_attempt_did_after_the_resume_is_hidden(run: RunFolder) -> None:
    for attempt, first, steps in ((1, 0, (1, 2, 3, 4)), (2, 2, (3, 4, 5)), (3, 4, (5, 6))):
        with EventWriter(run, attempt) as events:
            events.write("state", {"state": "running", "reason": "", "step": first})
            for step in steps:
                events.write("step", make_step(step, loss=attempt))
            events.write("checkpoint", {"step": steps[-1], "reason": "interval"})
    shown = read_events(run)
    assert [(s.step, s.loss) for s in shown.steps] == [
        (1, 1),
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 3),
        (6, 3),
    ]
    assert [c["step"] for c in shown.checkpoints] == [6]
    assert len(shown.states) == 3
    everything = read_events(run, superseded=True)
    assert len(everything.steps) == 9
    assert shown.active_seconds == everything.active_seconds == 4.5


def test_a_resume_from_an_earlier_point_than_the_one_before_hides_both(run: RunFolder) -> None:
    for attempt, first, steps in ((1, 0, (1, 2, 3)), (2, 3, (4,)), (3, 1, (2,))):
        with EventWriter(run, attempt) as events:
            events.write("state", {"state": "running", "reason": "", "step": first})
            for step in steps:
                events.write("step", make_step(step, loss=attempt))
    assert [(s.step, s.loss) for s in read_events(run).steps] == [(1, 1), (2, 3)]


def test_attempts_are_numbered_from_one(run: RunFolder) -> None:
    assert next_attempt(run) == 1
    with EventWriter(run, 1) as events:
        events.write("note", {"text": "hello"})
    assert next_attempt(run) == 2
    assert read_events(run).notes == ("hello",)


def test_a_whole_line_that_is_no_event_is_named_with_its_number(run: RunFolder) -> None:
    run.events.mkdir()
    (run.events / "a-1.jsonl").write_bytes(b"\n{}\n")
    with pytest.raises(BookError, match=r"a-1\.jsonl:2: this line is not an event"):
        read_events(run)


def test_a_tail_gives_each_whole_line_once(run: RunFolder) -> None:
    tail = EventTail(run)
    assert tail.poll() == []
    with EventWriter(run, 1) as events:
        events.write("note", {"text": "a"})
        assert tail.poll() == [("note", {"text": "a"})]
        path = event_files(run)[0]
        size = path.stat().st_size
        with path.open("ab") as file:
            file.write(b'{"kind":"note"')
        assert tail.poll() == []
        with path.open("r+b") as file:
            file.truncate(size)
        events.write("note", {"text": "b"})
        assert tail.poll() == [("note", {"text": "b"})]
        assert tail.poll() == []


def test_a_full_disk_is_said_and_leaves_no_torn_line(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    real = os.write
    with EventWriter(run, 1) as events:
        events.write("note", {"text": "a"})
        before = event_files(run)[0].read_bytes()
        left = [5]

        def full(descriptor: int, data: bytes) -> int:
            if not left[0]:
                raise OSError(28, "No space left on device")
            n = real(descriptor, data[: left[0]])
            left[0] = 0
            return n

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match=r"the disk is full.*tunebook resume r"):
            events.write("note", {"text": "b"})
        monkeypatch.undo()
        assert event_files(run)[0].read_bytes() == before


def test_an_unknown_kind_is_a_mistake_of_the_caller(run: RunFolder) -> None:
    with EventWriter(run, 1) as events, pytest.raises(ValueError, match="unknown kind"):
        events.write("stepp", {})


def test_events_of_a_whole_run_are_in_order(book: Path) -> None:
    read = read_events(make_run(book, "a", steps=5))
    assert [s.step for s in read.steps] == [1, 2, 3, 4, 5]
    assert read.last_state == "finished"


def test_a_clock_that_jumps_back_leaves_the_order_as_it_was_written(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        hours = 23

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            cls.hours -= 5  # an hour earlier each time would do
            return datetime(2026, 11, 21, cls.hours, tzinfo=tz)

    monkeypatch.setattr(events, "datetime", Clock)
    tail = EventTail(run)
    with EventWriter(run, 1) as writer:
        writer.write("state", {"state": "running", "step": 0})
        writer.write("step", make_step(1))
        writer.write("step", make_step(2))
        writer.write("state", {"state": "finished", "step": 2})
    read = read_events(run)
    assert [step.step for step in read.steps] == [1, 2]
    assert read.last_state == "finished"
    assert [kind for kind, _ in tail.poll()] == ["state", "step", "step", "state"]
