"""A run that goes on with something changed: refused by name, or made a run of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_train_flow import weights, write_run

from tunebook.book.events import EventWriter, next_attempt, read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.book.summary import summarize
from tunebook.cli.main import main
from tunebook.errors import BookError, ResumeRefused, RunEnded, TunebookError
from tunebook.recipe.load import read_resolved
from tunebook.records import RunSummary
from tunebook.units import format_number
from tunebook.workflows import resume as resume_module
from tunebook.workflows.fork import fork_run
from tunebook.workflows.resume import resume
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end


def test_a_fork_whose_data_makes_fewer_steps_than_were_taken_never_finishes(
    book: Path, tiny_gpt2: Path
) -> None:
    plain = {"evaluate": {"prompts": [], "canary": 0}, "validation": {"fraction": 0.0}}
    path = write_run(book, "run_1", tiny_gpt2, **plain, train={"max_steps": 3})
    run = start_run(book, load_recipe(path, (), book))
    train_here(run)
    child, _ = fork_run(run, "child", ["train.max_tokens=50"])
    with pytest.raises(
        ResumeRefused, match=r"child stands at step 3, and its settings make \d steps"
    ):
        train_here(child)
    assert not child.final.exists()


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return create_book(tmp_path / "book")


def test_a_changed_run_is_refused_and_its_fork_goes_on_where_it_was(
    book: Path,
    tiny_gpt2: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(book)
    short: dict[str, Any] = {"evaluate": {"every": 5, "prompts": []}}
    of_8: dict[str, Any] = {"train": {"max_steps": 8}, **short}
    faster = {**of_8, "train": {"max_steps": 8, "learning_rate": 2e-3}}
    whole = start_run(book, load_recipe(write_run(book, "whole", tiny_gpt2, **of_8), (), book))
    train_here(whole)
    path = write_run(book, "parted", tiny_gpt2, **of_8)
    run = start_run(book, load_recipe(path, (), book))
    with pytest.raises(RunEnded, match="stopped after step 3"):
        train_here(run, stop_after=3)

    write_run(book, "parted", tiny_gpt2, **faster)
    with pytest.raises(BookError, match=r"learning_rate: 0\.001 -> 0\.002; put that back, or"):
        resume("parted", book=book)
    write_run(book, "parted", tiny_gpt2, **of_8)
    rows = (book / "rows.json").read_text()
    (book / "rows.json").write_text(rows.replace("blue", "pink"))
    with pytest.raises(TunebookError, match="its data changed since"):
        train_here(run)
    (book / "rows.json").write_text(rows)
    assert read_events(run).last_state in ("paused", "running")

    monkeypatch.setattr(resume_module, "train_run", in_this_process)
    capsys.readouterr()
    assert main(["resume", "parted", "--fork", "same"]) == 0
    ended = capsys.readouterr().out
    forked = RunFolder(book, "same")
    assert weights(forked) == weights(whole)
    begun: Any = read_resolved(forked.resolved_yaml.read_text())[1]["resumed_from"]
    assert (begun["run"], begun["step"]) == ("parted", 3)
    events = read_events(forked)
    assert [s.step for s in events.steps] == [4, 5, 6, 7, 8]
    assert events.validations[0].step == 3
    assert f"base_val_loss {format_number(events.validations[0].loss)}" in ended

    other, changed = fork_run(run, "other", ["train.learning_rate=2e-3"])
    assert changed == {"train.learning_rate": [0.001, 0.002]}
    train_here(other)
    assert weights(other) != weights(whole)
    train_here(run)
    assert weights(run) == weights(whole)
    capsys.readouterr()
    assert main(["runs", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert {r["name"]: r["parents"] for r in table if r["name"] in ("same", "parted")} == {
        "same": ["parted"],
        "parted": [],
    }


def in_this_process(run: RunFolder, _watch: object) -> RunSummary:
    train_here(run)
    return summarize(run)


def train_here(run: RunFolder, stop_after: int | None = None) -> None:
    """Train in this process, which has torch already; stop after a step as a signal would."""

    def stop_code() -> int | None:
        return 143 if stop_after in [s.step for s in read_events(run).steps] else None

    with EventWriter(run, next_attempt(run)) as events:
        run_to_end(run, events, stop_code, lambda: None)
