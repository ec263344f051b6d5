"""What a run's page says of its sources."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from made_runs import make_run, make_step, make_validation
from tunebook.book.by_source import tally_sources
from tunebook.book.codec import to_plain, to_record
from tunebook.book.events import EventWriter
from tunebook.pages.run_mixture import draw_line
from tunebook.pages.run_page import build_run_page
from tunebook.records import ExampleLoss, StepRecord, ValidationRecord


def mixed_step(step: int, a: float, b: float, *, applied: bool = True) -> StepRecord:
    examples = (ExampleLoss("a#1", a * 10, 10), ExampleLoss("a-2/f.txt#3/1", b * 30, 30))
    return replace(
        make_step(step),
        examples=examples,
        sources={"a": 12, "a-2": 40},
        lengths=(12, 40),
        applied=applied,
    )


def test_sources_are_told_apart_by_the_beginning_of_ids() -> None:
    tallies = tally_sources([mixed_step(1, 3.0, 2.0), mixed_step(2, 1.0, 1.0, applied=False)])
    a, b = tallies["a"], tallies["a-2"]
    assert (a.examples, a.tokens, a.target_tokens, a.losses) == (1, 12, 10, [3.0, 1.0])
    assert (b.examples, b.tokens, b.target_tokens, b.losses) == (1, 40, 30, [2.0, 1.0])


def test_losses_of_a_source_are_weighted_by_its_target_tokens() -> None:
    few = replace(
        make_step(1), examples=(ExampleLoss("s#1", 4.0, 1), ExampleLoss("s#2", 6.0, 9)),
        sources={"s": 20},
    )  # fmt: skip
    assert tally_sources([few])["s"].last_loss() == pytest.approx(1.0)


def test_the_page_shows_every_source_when_there_are_several(book: Path) -> None:
    run = make_run(book, "mixed", steps=0, state=None)
    shares = [
        {"name": "a", "weight": 4.0, "share_of": {"target_tokens": 0.25}},
        {"name": "a-2", "weight": 1.0, "share_of": {"target_tokens": 0.75}},
    ]
    run.data_json.write_text(json.dumps({"sources": [], "mixture": shares}))
    with EventWriter(run, 1) as events:
        for step in range(1, 31):
            events.write("step", mixed_step(step, 3 - step / 20, 2.0))
        last = replace(make_validation(30, 2.5), per_source={"a": 2.5, "a-2": 2.25})
        events.write("validation", last)
    page = build_run_page(run, book)
    (line,) = [line for line in page.splitlines() if line.startswith("| a ")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "a", "4", "25 %", "25 %", "30", "300", "2.900 → 1.550", "unknown → 2.500",
    ]  # fmt: skip
    assert "2.900 █" in page
    assert "▁ 1.550" in page


def test_one_source_has_no_section_of_its_own(book: Path) -> None:
    assert "## By source" not in build_run_page(make_run(book, "plain"), book)


def test_a_part_says_which_one_it_is_and_what_changed(book: Path) -> None:
    run = make_run(book, "big-part-2")
    one = {"rows": 5, "documents": 5, "examples": 5, "checksum": "0"}
    parts = {"part": 2, "parts": 2, "whole": {**one, "rows": 10}, "slices": [one, one]}
    data = json.loads(run.data_json.read_text())
    run.data_json.write_text(json.dumps({**data, "parts": parts}))
    text = run.resolved_yaml.read_text()
    run.resolved_yaml.write_text(text + "  changed: {train.learning_rate: [0.001, 0.0005]}\n")
    page = build_run_page(run, book)
    assert "## Part 2 of 2" in page
    assert "| **2** |" in page
    assert "`train.learning_rate` `0.001` → `0.0005`" in page


def test_weights_of_another_run_are_not_called_untouched(book: Path) -> None:
    run = make_run(book, "big-part-2")
    text = run.resolved_yaml.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("  model_as_written:")]
    run.resolved_yaml.write_text("\n".join([*lines, "  model_as_written: run:big-part-1", ""]))
    page = build_run_page(run, book)
    assert "(`big-part-1` before 3.000)" in page
    assert "Before, the weights of `big-part-1`:" in page
    assert "untouched" not in page


def test_a_line_of_blocks_falls_with_the_loss_and_marks_what_is_not_finite() -> None:
    assert draw_line([1, 2, 3], [8.0, 4.0, 1.0], [1, 1, 1]) == "█▄▁"
    assert draw_line([1, 2, 3], [8.0, math.nan, 1.0], [1, 1, 1]) == "█×▁"
    assert draw_line([1, 2, 3, 9], [2.0, 2.0, 2.0, 2.0], [1, 1, 1, 1]) == "▁▁ ▁"
    assert draw_line([], [], []) == ""


def test_a_validation_of_old_is_still_read() -> None:
    plain = to_plain(make_validation(3, 2.0))
    del plain["per_source_target_tokens"]
    assert to_record(ValidationRecord, plain).per_source_target_tokens == {}
