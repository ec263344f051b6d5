"""Several seeds per setting, against statsmodels' Tukey test."""

from __future__ import annotations

import numpy as np
import pytest

from tunebook.statistics.seeds import compare_seeds


def test_differences_are_those_of_an_independent_tukey_test() -> None:
    from statsmodels.stats.multicomp import pairwise_tukeyhsd

    rng = np.random.default_rng(4)
    groups = {f"g{i}": list(rng.normal(2 + 0.1 * i, 0.07, 3 + i % 2)) for i in range(5)}
    found = compare_seeds(groups)
    assert found is not None
    names = [name for name, values in groups.items() for _ in values]
    theirs = pairwise_tukeyhsd([v for values in groups.values() for v in values], names)
    assert found.best == "g0"
    for i, name in enumerate(["g1", "g2", "g3", "g4"]):
        # statsmodels lists g0 against the others first, the second less the first.
        assert found.differences[name] == pytest.approx(tuple(theirs.confint[i]), rel=1e-3)
        assert (found.verdicts[name] == "different") == bool(theirs.reject[i])
    assert {"different", "cannot tell"} == set(found.verdicts.values())


def test_noise_is_pooled_over_groups_and_none_without_two_seeds_anywhere() -> None:
    assert compare_seeds({"a": [1.0], "b": [2.0], "c": []}) is None
    found = compare_seeds({"a": [1.0, 1.2], "b": [2.0, 2.4], "c": [1.5]})
    assert found is not None
    assert found.degrees == 2
    assert found.deviation == pytest.approx(((0.02 + 0.08) / 2) ** 0.5)
    low, high = found.intervals["c"]
    assert (low + high) / 2 == pytest.approx(1.5)
    assert high - low > found.intervals["a"][1] - found.intervals["a"][0]


def test_groups_without_a_difference_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(11)
    told = 0
    for _ in range(200):
        found = compare_seeds({f"g{i}": list(rng.normal(0, 1, 3)) for i in range(8)})
        assert found is not None
        told += "different" in found.verdicts.values()
    assert told <= 20  # 5 % of 200, and room for luck
