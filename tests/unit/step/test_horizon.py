"""How long a run is and when things are due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunebook.data.order import TrainSet
from tunebook.errors import RunFileError
from tunebook.recipe.tree import Recipe
from tunebook.step.horizon import Horizon, divisors, grouped, plan_horizon


@dataclass
class Counts:
    """The sizes of a training set, which is all that a horizon needs of it."""

    rows_per_epoch: int = 100
    tokens_per_epoch: int = 5000


def horizon(rows: int = 100, **train: Any) -> Horizon:
    recipe = Recipe.model_validate(
        {"name": "r", "model": "m", "data": [{"path": "p"}], "train": train}
    )
    return plan_horizon(recipe, cast(TrainSet, Counts(rows)))


def test_every_row_of_an_epoch_is_trained_the_last_step_being_shorter() -> None:
    found = horizon(effective_batch_size=32)
    assert found.total_steps == 4
    rows = [row for step in range(1, 5) for row in found.rows_of_step(step)]
    assert rows == list(range(100))


def test_steps_of_the_alpaca_notebook() -> None:
    assert horizon(11952, effective_batch_size=2).total_steps == 5976


@pytest.mark.parametrize("key", ["max_steps", "max_tokens", "epochs"])
def test_a_run_without_end_is_refused_before_its_steps_are_written_down(key: str) -> None:
    with pytest.raises(RunFileError, match=r"steps, and a run has 10,000,000 at most; give fewer"):
        horizon(**{key: 10**14})


def test_steps_of_a_pygmalion_part() -> None:
    assert horizon(682701, effective_batch_size=256).total_steps == 2667


def test_max_tokens_is_rounded_up_to_a_whole_step() -> None:
    # 50 tokens a row, 8 rows a step: 400 tokens.
    assert horizon(effective_batch_size=8, max_tokens=1001).total_steps == 3


def test_the_automatic_micro_batch_is_the_largest_divisor_up_to_8() -> None:
    sizes = {
        batch: horizon(effective_batch_size=batch).micro_batch_size
        for batch in (1, 6, 7, 12, 32, 22)
    }
    assert sizes == {1: 1, 6: 6, 7: 7, 12: 6, 32: 8, 22: 2}


def test_a_batch_larger_than_all_rows_is_refused() -> None:
    with pytest.raises(
        RunFileError, match="effective_batch_size 128 is larger than all the 100 rows"
    ):
        horizon(effective_batch_size=128)


def test_something_due_every_epoch_comes_at_the_step_that_ends_it() -> None:
    found = horizon(epochs=3, effective_batch_size=32)
    due = [step for step in range(1, found.total_steps + 1) if found.due("epoch", step)]
    assert due == [4, 7, 10]


@given(steps=st.integers(1, 400), percent=st.sampled_from(["5%", "10%", "33%", "50%", "100%"]))
def test_a_share_comes_as_often_as_it_says(steps: int, percent: str) -> None:
    found = horizon(rows=steps, effective_batch_size=1)
    due = [step for step in range(1, steps + 1) if found.due(percent, step)]
    assert len(due) == min(steps, int(100 / float(percent[:-1])))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_rows_shared_out_stay_in_their_step_and_make_no_micro_batch_longer(
    steps: int, n: int, size: int, seed: int
) -> None:
    lengths = np.random.default_rng(seed).integers(1, 500, (steps, n * size))
    found = grouped(lengths, size)
    assert found.shape == (steps, n, size)
    assert (np.sort(found.reshape(steps, -1), axis=1) == np.arange(n * size)).all()
    assert (np.diff(found, axis=2) > 0).all()
    for of_step, places in zip(lengths, found, strict=True):
        in_order = of_step.reshape(n, size).sum(1).max()
        assert of_step[places].sum(1).max() <= in_order


def test_long_rows_are_kept_apart_and_equal_ones_in_order() -> None:
    assert grouped(np.array([[9, 8, 1, 2]]), 2).tolist() == [[[0, 2], [1, 3]]]
    assert grouped(np.full((1, 4), 7), 2).tolist() == [[[0, 1], [2, 3]]]


@given(st.integers(1, 3000), st.integers(0, 3000))
def test_divisors_are_those_that_leave_nothing(batch: int, at_most: int) -> None:
    assert divisors(batch, at_most) == [
        n for n in range(1, min(batch, at_most) + 1) if batch % n == 0
    ]


def test_the_divisors_of_a_batch_of_a_thousand_million_are_found_at_once() -> None:
    found = divisors(2**30, at_most=2**30)
    assert found == [2**n for n in range(31)]
    with pytest.raises(ValueError, match="effective_batch_size"):
        horizon(effective_batch_size=2**30 + 1)
