from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunebook.statistics.importance import rank_importance, share_importance


def test_a_rank_correlation_is_that_of_scipy() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=30)
    y = x + draw.normal(size=30)
    found = rank_importance(list(x), list(y))
    assert found.strength == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.interval is not None
    assert found.interval[0] < found.strength < found.interval[1]
    assert found.told


def test_a_share_of_variance_is_that_of_the_analysis_of_variance() -> None:
    draw = np.random.default_rng(1)
    groups = ["a", "b", "c"] * 8
    y = draw.normal(size=24) + np.array([0, 2, 4] * 8)
    found = share_importance(groups, list(y))
    f = stats.f_oneway(y[0::3], y[1::3], y[2::3]).statistic
    assert found.strength == pytest.approx(2 * f / (2 * f + 21))
    assert found.interval is not None
    # The lower end is where an F as large as this one has a chance of 2.5 %.
    low = found.interval[0] * 24 / (1 - found.interval[0])
    assert stats.ncf.sf(f, 2, 21, low) == pytest.approx(0.025, abs=1e-4)
    assert found.told


@pytest.mark.parametrize("measure", ["rank", "share"])
def test_what_has_nothing_to_do_with_the_result_is_seldom_told(measure: str) -> None:
    draw = np.random.default_rng(2)
    told = 0
    for _ in range(200):
        y = list(draw.normal(size=16))
        told += (
            rank_importance(list(draw.normal(size=16)), y).told
            if measure == "rank"
            else share_importance(list(draw.integers(3, size=16)), y).told
        )
    assert told <= 20  # 5 % of 200 is 10


def test_seven_runs_tell_nothing_however_clear_they_are() -> None:
    assert not rank_importance(range(7), range(7)).told
    found = rank_importance(range(8), range(8))
    assert found.told
    assert found.interval is not None
    assert 0.5 < found.interval[0] < 0.95
    assert found.interval[1] == 1.0


@pytest.mark.parametrize(
    ("groups", "results", "reason"),
    [
        (["a", "b", "c"], [1.0, 2.0, 3.0], "no value was tried in two runs"),
        (["a", "a", "a"], [1.0, 2.0, 3.0], "the same in every run"),
        (["a", "a", "b"], [1.0, 1.0, 1.0], "the same in every run"),
        (["a", "a", "b", "b"], [1.0, 1.0, 2.0, 2.0], "came out alike"),
    ],
)
def test_a_share_that_has_no_interval_says_why(
    groups: list[str], results: list[float], reason: str
) -> None:
    found = share_importance(groups, results)
    assert found.interval is None
    assert not found.told
    assert reason in found.reason


@pytest.mark.parametrize("apart", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-9])
def test_groups_that_are_very_far_apart_are_told_without_a_failure(apart: float) -> None:
    results = [1 + apart * i for i in range(5)] + [2 + apart * i for i in range(5)]
    found = share_importance(["a"] * 5 + ["b"] * 5, results)
    assert found.strength == pytest.approx(1, abs=1e-3)
    assert found.interval is None or 0.9 < found.interval[0] <= found.interval[1] <= 1
    assert found.interval is not None or found.reason
