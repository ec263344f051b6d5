"""The learning rate at every step."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunebook.recipe.tree import Recipe, Train
from tunebook.step.schedule import (
    learning_rate_at,
    merges_after,
    rate_of_run,
    warmup_length,
)


def test_warmup_reaches_the_peak_at_its_last_step() -> None:
    train = Train(learning_rate=1e-3, warmup_steps=4)
    rates = [learning_rate_at(train, step, 10) for step in range(1, 6)]
    assert rates[:4] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])
    assert rates[4] < 1e-3


def test_the_last_step_has_exactly_the_lowest_rate() -> None:
    for schedule in ("linear", "cosine"):
        train = Train(learning_rate=5e-5, min_lr=1e-5, warmup_fraction=0.2, schedule=schedule)
        assert learning_rate_at(train, 100, 100) == pytest.approx(1e-5, abs=1e-18)


def test_cosine_is_half_way_down_in_the_middle() -> None:
    train = Train(learning_rate=1.0, schedule="cosine")
    assert learning_rate_at(train, 51, 101) == pytest.approx(0.5)


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert learning_rate_at(Train(learning_rate=2e-4), 1, 50) == 2e-4


def test_constant_stays_after_the_warmup() -> None:
    train = Train(learning_rate=0.98e-5, schedule="constant", warmup_steps=24)
    assert learning_rate_at(train, 24, 2667) == learning_rate_at(train, 2667, 2667) == 0.98e-5


@given(
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    total=st.integers(1, 500),
    warmup=st.floats(0, 0.99),
    low=st.floats(0, 1),
)
def test_every_rate_stays_in_bounds(schedule: str, total: int, warmup: float, low: float) -> None:
    train = Train(schedule=schedule, learning_rate=1.0, min_lr=low, warmup_fraction=warmup)
    assert warmup_length(train, total) <= total
    for step in range(1, total + 1):
        rate = learning_rate_at(train, step, total)
        floor = low if step > warmup_length(train, total) else 0
        assert floor - 1e-12 <= rate <= 1.0 + 1e-12


def test_relora_warms_up_after_each_merge_and_none_comes_after_the_last_step() -> None:
    values = {"name": "a", "model": "x", "data": [{"path": "x"}], "method": "relora"}
    recipe = Recipe.model_validate(
        {
            **values,
            "relora": {"merge_every": 10, "warmup_steps": 4},
            "train": {"learning_rate": 1.0, "schedule": "linear", "warmup_steps": 2},
        }
    )
    assert [s for s in range(1, 31) if merges_after(recipe, s, 30)] == [10, 20]
    whole = [learning_rate_at(recipe.train, step, 30) for step in range(1, 31)]
    shares = [1.0] * 10 + [0.25, 0.5, 0.75, *[1.0] * 7] * 2
    expected = [rate * share for rate, share in zip(whole, shares, strict=True)]
    assert [rate_of_run(recipe, step, 30) for step in range(1, 31)] == pytest.approx(expected)


def test_a_range_test_rises_by_the_same_factor_at_every_step() -> None:
    train = Train(learning_rate=1.0, min_lr=1e-6, schedule="lr_range")
    rates = [learning_rate_at(train, step, 100) for step in range(1, 101)]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[-1] == pytest.approx(1.0)
    factors = [later / earlier for earlier, later in itertools.pairwise(rates)]
    assert max(factors) == pytest.approx(min(factors)) == pytest.approx(1e6 ** (1 / 99))
    assert learning_rate_at(train, 1, 1) == pytest.approx(1e-6)
    with pytest.raises(ValueError, match="rises from a `min_lr` above 0"):
        Train(learning_rate=1.0, schedule="lr_range")
