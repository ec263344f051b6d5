"""How a recipe goes on with a step that was broken off, and what its report can say."""

from __future__ import annotations

from pathlib import Path

import pytest

from made_runs import RECIPE
from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder
from tunebook.workflows.recipes import _going_on


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "talk.yaml"], ["train", "talk.yaml"]),
        (
            ["train", "talk.yaml", "part=1", "name=talk-part-1", "--json"],
            ["resume", "talk-part-1", "--json"],
        ),
        (["show", "talk-part-1"], ["show", "talk-part-1"]),
    ],
)
def test_a_run_that_was_broken_off_is_resumed_by_the_name_it_was_given(
    book: Path, words: list[str], expected: list[str]
) -> None:
    (book / "talk.yaml").write_text("name: talk\nmodel: m\n", encoding="utf-8")
    run = RunFolder(book, "talk-part-1")
    run.events.mkdir(parents=True)
    text = RECIPE.format(
        name=run.name, extends="~", model="m", method="full", rank=8, learning_rate=1
    )
    run.resolved_yaml.write_text(text, encoding="utf-8")
    with EventWriter(run, 1) as events:
        events.write("state", {"state": "paused", "reason": "", "step": 3})
    assert _going_on(book, words) == expected
