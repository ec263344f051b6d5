"""Cells of a sampling grid, from answers made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tunebook.evaluate.grid import (
    BY_ANSWER,
    Answered,
    cells_of,
    measure_grid,
    recommended,
    reference_cell,
)
from tunebook.evaluate.questions import Question
from tunebook.models.generate import Sampling
from tunebook.records import Message

LOOP, FRESH = (1, 2) * 10, tuple(range(20))


def said(number: int, ids: tuple[int, ...], repeat: int = 0) -> Answered:
    question = Question(f"q{number}", (Message("user", f"{number}"),))
    return Answered(question, repeat, "a word", (1, 2, 1, 2, 1), ids, len(ids) < 20, 40.0)


def test_the_grid_of_the_recipe_has_eighteen_cells() -> None:
    cells = cells_of([0, 0.5, 0.65, 0.8, 1.0], [0.9, 1.0], [1.0, 1.1], 48)
    assert len(cells) == 18  # greedy has no top-p
    assert reference_cell(cells) == Sampling(48, 1.0, 1.0, 1.0)


def test_only_a_cell_that_is_different_is_recommended() -> None:
    plain, penalized, lucky = Sampling(20, 1.0), Sampling(20, 1.0, 1.0, 1.1), Sampling(20, 0.8)
    found = measure_grid(
        {
            plain: [said(i, LOOP) for i in range(30)],
            penalized: [said(i, FRESH) for i in range(30)],
            # Better on one prompt of thirty: that is nothing.
            lucky: [said(i, LOOP if i else FRESH) for i in range(30)],
        },
        "rep-4",
    )
    reference, better, same = found
    assert reference.difference is None
    assert reference.numbers["rep-4"].score == pytest.approx(1 - 2 / 17)
    assert reference.numbers["looping"].score == 1
    assert reference.numbers["copied"].score == 1 / 2  # 12121 stands in the prompt, 21212 does not
    assert reference.numbers["hit-max"].score == 1
    assert reference.numbers["short"].score == 1
    assert reference.perplexity == pytest.approx(math.exp(40 / 20))
    assert better.difference
    assert better.difference.verdict == "different"
    assert recommended(found, "rep-4") is better
    assert recommended([reference, same], "rep-4") is None


def test_distinct_n_is_of_a_fixed_budget_and_unknown_below_it() -> None:
    cells = {
        Sampling(20, 1.0): [said(i, FRESH) for i in range(50)],
        Sampling(20, 0.5): [said(i, FRESH) for i in range(49)] + [said(49, (1,))],
    }
    enough, short = measure_grid(cells, "rep-2")
    assert enough.distinct == (20 / 1000, 19 / (50 * 19))
    assert short.distinct == (None, None)


def test_of_a_judge_the_higher_cell_is_the_better_one() -> None:
    plain, good = Sampling(20, 1.0), Sampling(20, 0.5)
    found = measure_grid(
        {
            plain: [replace(said(i, FRESH), judged=40.0 + i % 3) for i in range(30)],
            good: [replace(said(i, FRESH), judged=60.0 + i % 5) for i in range(30)],
        },
        "judge",
    )
    assert found[1].numbers["judge"].score == 62
    assert recommended(found, "judge") is found[1]
    assert (
        recommended(
            measure_grid({plain: [said(1, FRESH)], good: [said(1, FRESH)]}, "rep-4"), "rep-4"
        )
        is None
    )


def test_what_the_speaker_said_before_counts_as_said_again() -> None:
    turns = (
        Message("user", "Hi"),
        Message("assistant", "I am a cook of soups"),
        Message("user", "?"),
    )
    told = replace(said(1, FRESH), question=Question("q", turns), text="Well, I am a cook of bread")
    assert BY_ANSWER["self-repeat"](told) == 2 / 4  # "i am a cook" and "am a cook of"
    assert BY_ANSWER["self-repeat"](said(2, FRESH)) == 0
