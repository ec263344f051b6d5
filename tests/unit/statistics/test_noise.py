"""Judge noise against question noise, and the luck of the best of many."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from tunebook.errors import UsageError
from tunebook.records import ItemScore
from tunebook.statistics.noise import chance_best, variance_components


def judged(n: int, repeats: int, question_sd: float, judge_sd: float) -> np.ndarray:
    draw = np.random.default_rng(0)
    return draw.normal(60, question_sd, (n, 1)) + draw.normal(0, judge_sd, (n, repeats))


def rows(table: np.ndarray) -> list[ItemScore]:
    return [
        ItemScore(f"q{i}", "h", "r", None if np.isnan(value) else float(value), repeat=k)
        for i, values in enumerate(table)
        for k, value in enumerate(values)
    ]


def test_both_parts_are_those_of_the_analysis_of_variance() -> None:
    table = judged(40, 3, 25, 10)
    found = variance_components(rows(table))
    assert found.judge_sd**2 == pytest.approx(table.var(axis=1, ddof=1).mean())
    assert 1 + 3 * (found.question_sd / found.judge_sd) ** 2 == pytest.approx(
        stats.f_oneway(*table).statistic
    )
    assert found.error == pytest.approx(stats.sem(table.mean(axis=1)))
    assert found.error_without_judge < found.error


def test_missing_judgements_leave_both_parts_in_place() -> None:
    table = judged(400, 4, 25, 10)
    table[np.random.default_rng(1).random(table.shape) < 0.3] = np.nan
    found = variance_components(rows(table))
    assert found.question_sd == pytest.approx(25, rel=0.1)
    assert found.judge_sd == pytest.approx(10, rel=0.1)
    assert 2.5 < found.repeats < 3.1


def test_one_judgement_per_item_cannot_tell_the_judge_from_the_question() -> None:
    assert variance_components(rows(judged(40, 1, 25, 10))) is None


def test_the_chance_to_be_best_follows_the_error_of_the_difference() -> None:
    draw = np.random.default_rng(2)
    base = draw.normal(60, 25, (100, 1))
    noise = stats.zscore(draw.normal(size=(100, 1)), ddof=1)
    found = chance_best({"a": rows(base + 1 + 10 * noise), "b": rows(base)})
    assert found["a"] == pytest.approx(stats.norm.cdf(1.0), abs=0.03)  # one SE ahead
    assert sum(found.values()) == pytest.approx(1)
    lower = chance_best({"a": rows(base + 1 + 10 * noise), "b": rows(base)}, higher_is_better=False)
    assert lower["b"] == pytest.approx(found["a"])


def test_a_hundred_thousand_items_are_drawn_in_a_thousand_sums() -> None:
    draw = np.random.default_rng(5)
    noise = draw.normal(size=(100_000, 1))
    ahead = noise.std() / np.sqrt(100_000)
    began = time.process_time()
    found = chance_best({"a": rows(noise + ahead - noise.mean()), "b": rows(0 * noise)})
    assert time.process_time() - began < 20
    assert found["a"] == pytest.approx(stats.norm.cdf(1.0), abs=0.03)


def test_equal_runs_share_the_chance_and_others_are_refused() -> None:
    table = judged(30, 1, 25, 10)
    assert chance_best({"a": rows(table), "b": rows(table)}) == {"a": 0.5, "b": 0.5}
    with pytest.raises(UsageError, match="scored on different examples"):
        chance_best({"a": rows(table), "b": rows(table[:9])})
