"""Win rates from both orders, the judge's faults, and length control."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import special

from tunebook.errors import UsageError
from tunebook.statistics.pairwise import PairScore, length_controlled, win_rate


def pair(item: object, outcome: float | None, a_first: bool = True, **more) -> PairScore:
    return PairScore(str(item), "h", "new", "old", a_first, outcome, **more)


def both(outcomes) -> list[PairScore]:
    """Rows of (outcome shown first, outcome shown second)."""
    return [
        pair(i, value, first)
        for i, orders in enumerate(outcomes)
        for first, value in zip((True, False), orders, strict=True)
    ]


def test_an_item_is_the_mean_of_its_orders_and_the_error_is_over_items() -> None:
    found = win_rate(both([(1, 1)] * 30 + [(0, 0)] * 15 + [(1, 0)] * 2 + [(0.5, 0.5)] * 3))
    assert found.level == "fine"
    assert found.estimate.score == pytest.approx((30 + 1 + 1.5) / 50)
    values = [1.0] * 30 + [0.0] * 15 + [0.5] * 5
    assert found.estimate.error == pytest.approx(np.std(values, ddof=1) / np.sqrt(50))
    assert found.estimate.n == 50
    assert found.consistency == 48 / 50


def test_a_judge_that_prefers_the_first_place_is_seen() -> None:
    found = win_rate(both([(1, 0)] * 8 + [(1, 1)] * 20 + [(0, 0)] * 20))
    assert found.first_rate == pytest.approx(0.5 + 8 / 48 / 2)
    assert found.position_p == pytest.approx(2 / 2**8, abs=0.003)
    fair = win_rate(both([(1, 0)] * 4 + [(0, 1)] * 4 + [(1, 1)] * 20 + [(0, 0)] * 20))
    assert (fair.first_rate, fair.position_p) == (0.5, 1)


@pytest.mark.parametrize(("alike", "level"), [(40, "fine"), (35, "warn"), (29, "refuse")])
def test_an_inconsistent_judge_is_doubted_and_then_refused(alike: int, level: str) -> None:
    found = win_rate(both([(1, 1)] * alike + [(1, 0), (0, 1)] * ((50 - alike) // 2)))
    assert found.level == level
    assert (found.estimate is None) == (level == "refuse")
    assert bool(found.message) == (level != "fine")


def test_one_order_is_a_win_rate_with_a_warning_and_missing_outcomes_are_counted() -> None:
    found = win_rate([pair(i, float(i % 2)) for i in range(20)] + [pair("x", None)])
    assert (found.level, found.consistency, found.estimate.score) == ("warn", None, 0.5)
    assert (found.estimate.missing, found.estimate.n) == (1, 20)


def test_roles_may_not_be_swapped_within_a_pair() -> None:
    with pytest.raises(UsageError, match="new and old, old and new"):
        win_rate([pair(0, 1.0), PairScore("1", "h", "old", "new", True, 1.0)])


def lengthy(n: int, preference: float, bias: float, longer: float) -> list[PairScore]:
    draw = np.random.default_rng(0)
    excess = draw.normal(longer, 200, n).round().astype(int)
    p = special.expit(preference + bias * np.tanh(excess / 200))
    return [
        pair(i, float(draw.random() < p[i]), length_a=1000 + int(excess[i]), length_b=1000)
        for i in range(n)
    ]


def test_length_control_is_the_logistic_regression_at_equal_length() -> None:
    rows = lengthy(300, 0.0, 2.0, 150)
    found = length_controlled(rows)
    excess = np.array([row.length_a - row.length_b for row in rows], float)
    design = sm.add_constant(np.tanh(excess / excess.std(ddof=1)))
    outcome = np.array([row.outcome for row in rows])
    fitted = sm.GLM(outcome, design, family=sm.families.Binomial()).fit()
    assert found.score == pytest.approx(special.expit(fitted.params[0]), abs=1e-6)
    low, high = special.expit(fitted.conf_int()[0])
    assert found.interval == pytest.approx((low, high), abs=0.02)
    # The judge likes length and the new answers are longer: most of the raw lead is that.
    assert win_rate(rows).estimate.score > 0.65
    assert found.interval[0] < 0.5 < found.interval[1]


def test_length_control_needs_lengths_that_differ() -> None:
    same = [pair(i, float(i % 2), length_a=9, length_b=9) for i in range(20)]
    assert length_controlled(same) is None
    with pytest.raises(UsageError, match="item 0 has no lengths"):
        length_controlled([pair(0, 1.0)])


def test_a_rate_at_equal_length_that_could_be_anything_is_left_out() -> None:
    # The longer answer always wins: the fit is a step, which may stand anywhere near 0.
    rows = [pair(i, float(i > 3), length_a=100 + 10 * (i - 3), length_b=100) for i in range(8)]
    assert length_controlled(rows) is None


@pytest.mark.shared_data
def test_the_published_win_rate_of_alpaca_7b_comes_out(shared_data: Path) -> None:
    """AlpacaEval's leaderboard by GPT-4: 26.46 +- 1.54 against text_davinci_003, 16 drawn."""
    path = shared_data / "judge" / "alpaca-7b-vs-davinci003-gpt4-annotations.json.gz"
    lines = json.loads(gzip.decompress(path.read_bytes()))
    outcome = {1: 0.0, 2: 1.0, 0: 0.5}
    rows = [
        PairScore(
            str(i), "", line["generator_2"], line["generator_1"], True, outcome[line["preference"]],
            length_a=len(line["output_2"]), length_b=len(line["output_1"]),
        )
        for i, line in enumerate(lines)
    ]  # fmt: skip
    found = win_rate(rows)
    assert (found.a, found.b) == ("alpaca-7b", "text_davinci_003")
    assert (sum(r.outcome == 1 for r in rows), sum(r.outcome == 0.5 for r in rows)) == (205, 16)
    assert found.estimate.n == 805
    assert 100 * found.estimate.score == pytest.approx(26.45962733, abs=1e-6)
    assert 100 * found.estimate.error == pytest.approx(1.53571147, abs=1e-6)
    controlled = length_controlled(rows)
    assert controlled.interval[0] < controlled.score < controlled.interval[1] < 0.5


def test_items_of_one_document_are_drawn_together() -> None:
    # Twelve documents, each won or lost as a whole, by the first place or not, at one length.
    draw = np.random.default_rng(1)
    rows = []
    for document in range(12):
        won, excess = float(draw.random() < 0.6), int(draw.normal(0, 200))
        for item in range(10):
            # In the first three documents the place decides.
            outcomes = (0.0, 1.0) if document < 3 else (won, won)
            for first, outcome in enumerate(outcomes):
                name, both = f"{document}-{item}", {"length_a": 1000 + excess, "length_b": 1000}
                rows.append(pair(name, outcome, bool(first), cluster=f"d{document}", **both))
    alone = [replace(row, cluster="") for row in rows]
    one_each = [row for row in alone if row.item_id.endswith("-0")]
    together, apart, twelve = win_rate(rows), win_rate(alone), win_rate(one_each)
    assert (together.estimate.clusters, apart.estimate.clusters) == (12, 120)
    # Ten questions of a document say no more than one does.
    assert together.estimate.interval == pytest.approx(twelve.estimate.interval, abs=0.01)
    assert together.position_p == pytest.approx(twelve.position_p) == 0.25
    assert apart.position_p < 0.001
    controlled, narrow = length_controlled(rows), length_controlled(alone)
    assert controlled.score == narrow.score
    assert controlled.interval == pytest.approx(length_controlled(one_each).interval, abs=0.02)
    assert width(controlled) > 2 * width(narrow)


def width(found) -> float:
    return found.interval[1] - found.interval[0]
