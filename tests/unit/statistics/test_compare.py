"""Two runs on the same items, against scipy and statsmodels, and where no verdict is due."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from tunebook.errors import UsageError
from tunebook.records import ItemScore
from tunebook.statistics.compare import compare, compare_by_tag, compare_many, holm


def rows(values, run: str = "a", **more) -> list[ItemScore]:
    return [ItemScore(f"q{i}", "h", run, v, **more) for i, v in enumerate(values)]


def drawn(n: int, shift: float, seed: int = 0, spread: float = 10.0):
    """Two runs whose differences have exactly this mean and this SD."""
    draw = np.random.default_rng(seed)
    base, noise = draw.normal(60, 25, n), stats.zscore(draw.normal(size=n), ddof=1)
    return rows((base + shift + spread * noise).tolist()), rows(base.tolist(), "b")


def values_of(lines) -> np.ndarray:
    return np.array([row.value for row in lines])


def test_a_clear_difference_is_different_and_signed_first_minus_second() -> None:
    a, b = drawn(60, 8.0)
    found = compare(a, b)
    assert found.verdict == "different"
    assert found.difference == pytest.approx(np.mean(values_of(a) - values_of(b)))
    assert found.interval[0] > 0
    assert found.n_needed is None
    back = compare(b, a)
    assert back.difference == -found.difference
    assert back.p == found.p


def test_p_interval_and_equivalence_are_those_of_scipy_and_statsmodels() -> None:
    a, b = drawn(40, 2.0, seed=3)
    found = compare(a, b, margin=5)
    d = values_of(a) - values_of(b)
    expected = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=99_999, rng=np.random.default_rng(9)
    )
    assert found.p == pytest.approx(expected.pvalue, abs=0.012)  # both are drawn
    boot = stats.bootstrap((d,), np.mean, n_resamples=10_000, rng=np.random.default_rng(0))
    assert found.interval == pytest.approx(tuple(boot.confidence_interval))
    assert found.p_equivalent == pytest.approx(ttost_paired(values_of(a), values_of(b), -5, 5)[0])
    assert found.sd == pytest.approx(d.std(ddof=1))


def test_with_few_items_the_test_is_exact() -> None:
    # Of 2^6 sign patterns the observed one and its mirror are the most extreme.
    found = compare(rows([9.0, 8, 7, 6, 5, 4]), rows([1.0] * 6, "b"))
    assert found.p == pytest.approx(2 / 64)


def test_the_detectable_difference_has_80_percent_power() -> None:
    a, b = drawn(110, 0.0)
    found = compare(a, b)
    assert found.detectable == pytest.approx(2.80 * found.sd / math.sqrt(110), rel=1e-3)
    power = TTestPower().power(found.detectable / found.sd, 110, 0.05)
    assert power == pytest.approx(0.80, abs=0.01)


def test_cannot_tell_says_how_many_items_would() -> None:
    a, b = drawn(30, 5.0, spread=30)
    found = compare(a, b)
    assert found.verdict == "cannot tell"
    size = found.difference / found.sd
    assert found.n_needed == pytest.approx(TTestPower().solve_power(size, None, 0.05, 0.8), abs=3)
    assert found.n_needed > 30


def test_within_the_margin_the_number_is_what_shows_equivalence() -> None:
    a, b = drawn(30, 1.0, spread=12)
    found = compare(a, b)
    assert found.verdict == "cannot tell"
    assert found.n_needed == math.ceil(((1.64485 + 0.84162) * 12 / (3 - 1)) ** 2)


def test_identical_scores_are_equivalent_with_nothing_between_them() -> None:
    a, _ = drawn(25, 0.0)
    found = compare(a, a)
    assert (found.verdict, found.difference, found.interval) == ("equivalent", 0, (0, 0))
    assert (found.p, found.sd, found.n_needed) == (1, 0, None)


def test_a_small_spread_around_nothing_is_equivalent() -> None:
    assert compare(*drawn(110, 0.3, spread=4)).verdict == "equivalent"


@pytest.mark.parametrize("scores", [[100.0, 100], [98.0, 98], [100, 100, 99, 100, 100]])
def test_fewer_than_six_that_are_alike_show_nothing_to_be_equivalent(scores) -> None:
    found = compare(rows([100.0] * len(scores)), rows(scores, "b"))
    assert (found.verdict, found.p_equivalent) == ("cannot tell", None)
    assert found.n_needed >= 6
    if len(scores) == 2:
        assert (found.interval, found.n_needed) == (None, 6)


def test_one_item_tells_nothing() -> None:
    found = compare(rows([90.0]), rows([10.0], "b"))
    assert (found.verdict, found.interval, found.p, found.n_needed) == (
        "cannot tell", None, None, None,
    )  # fmt: skip


def test_thousands_of_items_are_resampled_in_a_thousand_sums_with_the_same_answer() -> None:
    a, b = drawn(2400, 0.4)
    found = compare(a, b)
    d = values_of(a) - values_of(b)
    assert found.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)
    expected = stats.t.interval(0.95, 2399, d.mean(), stats.sem(d))
    assert found.interval == pytest.approx(expected, abs=0.05)


def test_other_examples_are_refused_with_the_way_out() -> None:
    a = rows([1.0, 2.0, 3.0, 4.0])
    b = [*rows([1.0, 2.0, 3.0], "b"), ItemScore("q3", "another hash", "b", 4.0)]
    with pytest.raises(
        UsageError, match=r"3 are shared, 1 are only in the first and 1 only in the second.*shared"
    ):
        compare(a, b)
    assert compare(a, b, shared_only=True).n == 3
    with pytest.raises(UsageError, match="share no example"):
        compare(a[:1], b[3:], shared_only=True)


def test_repeats_are_averaged_before_items_are_paired() -> None:
    a = [ItemScore(f"q{i}", "h", "a", 50.0 + k + i, repeat=k) for i in range(8) for k in range(3)]
    b = [ItemScore(f"q{i}", "h", "b", 40.0 + i) for i in range(8)]
    found = compare(a, b)
    assert (found.difference, found.n, found.p) == (11, 8, pytest.approx(2 / 256))


def test_losses_are_compared_per_token_with_whole_documents() -> None:
    draw = np.random.default_rng(4)
    a, b = [], []
    for document in range(12):
        lift = draw.normal(-0.2, 0.1)
        for part in range(5):
            tokens, name = 50 + 10 * part, f"{document}.{part}"
            loss = draw.normal(3, 0.3)
            a.append(ItemScore(name, "h", "a", (loss + lift) * tokens, tokens, str(document)))
            b.append(ItemScore(name, "h", "b", loss * tokens, tokens, str(document)))
    found = compare(a, b, margin=0.01)
    whole = (values_of(a) - values_of(b)).sum() / sum(row.n_units for row in a)
    assert found.difference == pytest.approx(whole)
    assert (found.n, found.clusters) == (60, 12)
    alone = [ItemScore(r.item_id, "h", r.run, r.value, r.n_units) for r in a]
    single = compare(
        alone, [ItemScore(r.item_id, "h", r.run, r.value, r.n_units) for r in b], margin=0.01
    )
    assert np.ptp(found.interval) > 1.5 * np.ptp(single.interval)
    with pytest.raises(UsageError, match="counts 50 units in the first and 51 in the second"):
        compare(a[:1], [ItemScore("0.0", "h", "b", 1.0, 51, "0")])


def test_too_much_missing_gives_bounds_and_no_verdict() -> None:
    a, b = drawn(60, 30.0)
    holes = [ItemScore(r.item_id, "h", "a", None if i < 2 else r.value) for i, r in enumerate(a)]
    found = compare(holes, b, scale=(0, 100))
    assert (found.verdict, found.n, found.missing_a, found.missing_b) == ("cannot tell", 58, 2, 0)
    assert found.reason == "3.3% of the scores are missing, more than 2%"
    low, high = found.bounds
    known = sum(r.value for r in holes if r.value is not None) - values_of(b).sum()
    assert (low * 60, high * 60) == pytest.approx((known, known + 200))


def test_unequally_missing_gives_bounds_even_when_little_is() -> None:
    a, b = drawn(420, 5.0)
    holes = [ItemScore(r.item_id, "h", "a", None if i < 8 else r.value) for i, r in enumerate(a)]
    found = compare(holes, b)
    p = stats.fisher_exact([[8, 412], [0, 420]]).pvalue
    assert found.reason == f"8 scores are missing in one run and 0 in the other (p {p:.3f})"
    alike = [ItemScore(r.item_id, "h", "b", None if i < 8 else r.value) for i, r in enumerate(b)]
    assert compare(holes, alike).verdict == "different"


def test_a_score_that_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="item q1 has a score that is not a finite number"):
        compare(rows([1.0, math.nan]), rows([1.0, 2.0], "b"))


def test_holm_is_that_of_statsmodels() -> None:
    ps = [0.04, 0.01, 0.03, 0.005, 0.9, 0.01]
    assert holm(ps) == pytest.approx(multipletests(ps, method="holm")[1])
    assert holm([]) == []


def test_many_looks_raise_p_and_with_it_the_verdict() -> None:
    shift = 2.3 * 10 / math.sqrt(40)  # t of 2.3: p near .027 alone, near .054 of two
    a, b = drawn(40, shift)
    runs = {"a": a, "b": b, "c": a[::-1]}
    one, two = compare(runs["a"], runs["b"]), compare(runs["a"], runs["c"])
    found = compare_many(runs, [("a", "b"), ("a", "c")])
    assert (one.verdict, found["a", "b"].verdict) == ("different", "cannot tell")
    assert [c.p_adjusted for c in found.values()] == holm([one.p, two.p])
    assert found["a", "b"].n_needed > 40
    assert found["a", "b"].p == one.p
    assert len(compare_many(runs)) == 3


def test_each_tag_is_compared_on_its_items_and_corrected_for_their_number() -> None:
    a, b = drawn(60, 0.0)
    tags = [("units",) if i < 20 else ("spelling", "long") for i in range(60)]
    tagged = [
        [ItemScore(r.item_id, "h", r.run, r.value + (x == 0 and i < 20) * 12, tags=tags[i])
         for i, r in enumerate(lines)]
        for x, lines in enumerate((a, b))
    ]  # fmt: skip
    found = compare_by_tag({"a": tagged[0], "b": tagged[1]}, [("a", "b")])["a", "b"]
    assert list(found) == ["long", "spelling", "units"]
    assert (found["units"].verdict, found["units"].n) == ("different", 20)
    assert found["units"].p_adjusted == pytest.approx(3 * found["units"].p)
    assert found["long"].verdict != "different"


def test_tags_of_all_pairs_are_one_family_and_those_without_a_pair_of_scores_are_left_out() -> None:
    a, b = drawn(40, 6.0)
    tags = [("x",) if i < 20 else ("y",) for i in range(40)]
    named = [ItemScore(r.item_id, "h", "a", r.value, tags=tags[i]) for i, r in enumerate(a)]
    alone = ItemScore("only here", "h", "a", 1.0, tags=("z",))
    # The same items under other tags are the same items.
    runs = {"a": [*named, alone], "b": b, "c": b[::-1]}
    pairs = [("a", "b"), ("a", "c")]
    found = compare_by_tag(runs, pairs)
    assert [list(found[pair]) for pair in pairs] == [["x", "y"], ["x", "y"]]
    every = [one for pair in pairs for one in found[pair].values()]
    assert [one.p_adjusted for one in every] == holm([one.p for one in every])
    holes = [ItemScore(r.item_id, "h", "b", None if i < 20 else r.value) for i, r in enumerate(b)]
    assert list(compare_by_tag({"a": named, "b": holes}, pairs[:1])["a", "b"]) == ["y"]
