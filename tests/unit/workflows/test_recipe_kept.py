"""What a step of a recipe leaves for the report: JSON, or text when it says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from made_runs import RECIPE
from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder
from tunebook.errors import RunEnded
from tunebook.workflows.recipes import Step, _take, answers_of

AGAIN = "`tunebook recipes run NAME`"


@pytest.fixture
def folder(book: Path) -> Path:
    (book / ".tunebook/recipe/answers").mkdir(parents=True)
    return book


def test_a_table_is_kept_as_text_and_an_answer_as_json(folder: Path) -> None:
    _take(folder, Step(run="runs --format md", keep="table", text=True), AGAIN)
    _take(folder, Step(run="runs --json", keep="runs"), AGAIN)
    answers = answers_of(folder)
    assert answers["table"].startswith("| name |")
    assert answers["runs"] == []


def test_text_that_is_not_said_to_be_text_is_a_bug_of_the_recipe(folder: Path) -> None:
    with pytest.raises(json.JSONDecodeError):
        _take(folder, Step(run="runs --format md", keep="table"), AGAIN)
    assert answers_of(folder) == {}


def test_a_step_that_ends_otherwise_than_it_should_leaves_no_answer(folder: Path) -> None:
    with pytest.raises(RunEnded, match="ended with 0, not 3"):
        _take(folder, Step(run="runs --json", keep="runs", exit_code=3), AGAIN)
    assert answers_of(folder) == {}


@pytest.mark.parametrize("named", [[], ["name=other"]])
def test_a_run_that_ended_before_its_step_was_marked_is_not_trained_again(
    folder: Path, named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "talk.yaml").write_text("name: talk\nmodel: m\n", encoding="utf-8")
    run = RunFolder(folder, "other" if named else "talk")
    run.events.mkdir(parents=True)
    text = RECIPE.format(
        name=run.name, extends="~", model="m", method="full", rank=8, learning_rate=1
    )
    run.resolved_yaml.write_text(text, encoding="utf-8")
    with EventWriter(run, 1) as events:
        events.write("state", {"state": "finished", "reason": None, "step": 3})
    monkeypatch.setattr("subprocess.Popen", None)  # nothing is started
    _take(folder, Step(run=" ".join(["train", "talk.yaml", *named])), AGAIN)
