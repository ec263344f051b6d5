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
    for _ in range(100):
        found = compare_seeds({f"g{i}": list(rng.normal(0, 1, 3)) for i in range(8)})
        assert found is not None
        told += "different" in found.verdicts.values()
    assert told <= 10  # 5 % of 100, and room for luck


NOISY = {
    "a": [1.00, 1.01, 0.99],
    "b": [1.10, 1.11, 1.09],
    "c": [1.02, 1.03, 1.00],
    "d": [1.2, 3.9, 1.4, 4.0],
}


def test_one_noisy_combination_does_not_drown_what_the_others_show() -> None:
    found = compare_seeds(NOISY)
    assert found is not None
    assert found.test == "games-howell"
    assert found.p_spread is not None
    assert found.p_spread < 0.01
    assert found.verdicts == {"b": "different", "c": "cannot tell", "d": "cannot tell"}
    low, high = found.intervals["a"]
    assert high - low < 0.06  # of its own seeds, not of d's
    assert "Games and Howell's" in found.words
    even = compare_seeds({name: values for name, values in NOISY.items() if name != "d"})
    assert even is not None
    assert even.test == "tukey"
    assert "Tukey's" in even.words


def test_differences_of_unequal_noise_are_games_and_howells() -> None:
    from scipy import stats

    found = compare_seeds(NOISY)
    assert found is not None
    own = {name: np.asarray(values) for name, values in NOISY.items()}
    for name in "bcd":
        # By way of Welch's t test, whose degrees of freedom are those of the pair.
        welch = stats.ttest_ind(own[name], own["a"], equal_var=False)
        q = stats.studentized_range.ppf(0.95, 4, welch.df)
        errors = [own[n].var(ddof=1) / len(own[n]) for n in (name, "a")]
        reach = q * np.sqrt(sum(errors) / 2)
        middle = own[name].mean() - own["a"].mean()
        assert found.differences[name] == pytest.approx((middle - reach, middle + reach), rel=1e-6)
        interval = stats.t.interval(
            0.95, len(own[name]) - 1, own[name].mean(), stats.sem(own[name])
        )
        assert found.intervals[name] == pytest.approx(interval)


def test_differences_of_unequal_noise_are_those_that_pingouin_gives() -> None:
    found = compare_seeds(NOISY)
    assert found is not None
    # pairwise_gameshowell of pingouin 0.7.0: its standard errors and degrees of freedom.
    assert found.differences["b"] == pytest.approx((0.06676160, 0.13323840), rel=1e-6)
    assert found.differences["c"] == pytest.approx((-0.02984959, 0.06318292), rel=1e-6)
    assert found.differences["d"] == pytest.approx((-2.07296230, 5.32296230), rel=1e-6)


def test_of_two_groups_the_interval_of_unequal_noise_is_welchs() -> None:
    from scipy import stats

    quiet, noisy = [1.0, 1.001, 0.999, 1.002, 0.998], [2.0, 9.0, 4.0, 1.5, 7.5]
    found = compare_seeds({"quiet": quiet, "noisy": noisy})
    assert found is not None
    assert found.test == "games-howell"
    welch = stats.ttest_ind(noisy, quiet, equal_var=False).confidence_interval(0.95)
    assert found.differences["noisy"] == pytest.approx((welch.low, welch.high), rel=1e-6)


@pytest.mark.parametrize("b", [[1.0000001, 1.0000001], [2.0], [1.0, 1.0 + 2e-16]])
def test_nothing_is_said_of_differences_where_no_seed_changed_anything(b: list[float]) -> None:
    found = compare_seeds({"a": [1.0, 1.0], "b": b})
    assert found is not None
    assert found.test == "none"
    assert not found.intervals
    assert not found.differences
    assert not found.verdicts
    assert "no seed changed the result" in found.words


def test_two_seeds_everywhere_are_pooled_however_their_spreads_look() -> None:
    found = compare_seeds({"a": [1.0, 1.001], "b": [1.2, 1.201], "c": [2.0, 5.0]})
    assert found is not None
    assert found.test == "tukey"
    assert found.p_spread is None


def test_a_group_of_one_seed_has_no_verdict_where_each_has_its_own_noise() -> None:
    found = compare_seeds({**NOISY, "e": [7.0]})
    assert found is not None
    assert found.test == "games-howell"
    assert "e" not in found.verdicts
    assert "e" not in found.intervals
    best = compare_seeds({**NOISY, "e": [0.5]})
    assert best is not None
    assert best.best == "e"
    assert best.test == "tukey"
