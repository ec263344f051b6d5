"""How a recipe goes on with a step that was broken off, and what its report can say."""

from __future__ import annotations

from pathlib import Path

import pytest

from made_runs import RECIPE
from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder
from tunebook.workflows.recipe_report import write_report
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


def test_a_report_orders_compares_averages_and_writes_what_answers_hold(tmp_path: Path) -> None:
    template = tmp_path / "report.md"
    template.write_text(
        "{% for p in points | points_by('n') %}{{ p.settings.n }} {% endfor %}"
        "{{ low | apart(high) }} {{ high | apart(low) }} {{ low | apart(low) }} "
        "{{ size | gigabytes }} {{ [0.25, none, 0.75] | average }} {{ [none] | average }} "
        "{{ games | elo }}"
    )
    answers = {
        "points": [{"settings": {"n": 3}}, {"settings": {"n": 1}}],
        "low": {"interval": [0.1, 0.2]},
        "high": {"interval": [0.3, 0.4]},
        "size": 121018026180,
        "games": {
            "elo": {
                "elo": 12.4,
                "interval": [-83, None],
                "scale": "Elo above random",
                "sources": {"random": "put at 0"},
                "fit_p": None,
            }
        },
    }
    assert write_report(template, answers, []) == (
        "1 3 above below None 121 GB 0.5 None "
        "Elo above random: 12 (-83 to unknown), given the ratings; rating of random: put at 0"
    )
