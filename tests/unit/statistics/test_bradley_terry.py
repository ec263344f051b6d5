"""Many models by pairs, against choix."""

from __future__ import annotations

import choix
import numpy as np
import pytest
from scipy import special

from tunebook.errors import UsageError
from tunebook.statistics.bradley_terry import bradley_terry
from tunebook.statistics.pairwise import PairScore

TRUE = {"a": 0.8, "b": 0.7, "c": -0.3, "d": -1.2}


def judged(items: int, ties: float = 0.0) -> list[PairScore]:
    draw = np.random.default_rng(0)
    names = list(TRUE)
    rows = []
    for i in range(items):
        for x, a in enumerate(names):
            for b in names[x + 1 :]:
                outcome = float(draw.random() < special.expit(TRUE[a] - TRUE[b]))
                outcome = 0.5 if draw.random() < ties else outcome
                rows.append(PairScore(f"q{i}", "h", a, b, True, outcome))
    return rows


def test_strengths_are_those_of_choix_with_a_tie_as_half_a_win_each() -> None:
    rows = judged(60, ties=0.2)
    names = sorted(TRUE)
    wins = []
    for row in rows:
        a, b = names.index(row.a), names.index(row.b)
        wins += [(a, b)] * int(2 * row.outcome) + [(b, a)] * int(2 * (1 - row.outcome))
    found = {s.name: s.strength for s in bradley_terry(rows).strengths}
    # Every win counts twice there, and so has the prior to.
    expected = choix.opt_pairwise(4, wins, alpha=0.01)
    assert [found[name] for name in names] == pytest.approx(expected - expected.mean(), abs=1e-4)


def test_intervals_hold_the_truth_and_models_alike_share_a_group() -> None:
    found = bradley_terry(judged(150))
    for one in found.strengths:
        true = TRUE[one.name] - np.mean(list(TRUE.values()))
        assert one.interval[0] < true < one.interval[1]
    assert [set(group) for group in found.groups] == [{"a", "b"}, {"c"}, {"d"}]
    assert found.n == 150


def test_few_items_separate_nothing() -> None:
    assert len(bradley_terry(judged(3)).groups[0]) >= 3


def test_a_model_that_won_everything_has_no_interval() -> None:
    rows = [PairScore(f"q{i}", "h", "x", "y", True, 1.0) for i in range(20)]
    found = bradley_terry(rows)
    assert [(s.name, s.interval) for s in found.strengths] == [("x", None), ("y", None)]


def test_models_never_compared_are_named() -> None:
    rows = [PairScore("q", "h", "a", "b", True, 1.0), PairScore("q", "h", "c", "d", True, 1.0)]
    with pytest.raises(UsageError, match="c, d was never compared with a"):
        bradley_terry(rows)
