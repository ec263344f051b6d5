"""One run's score: the mean, the ratio, the share, and what is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from tunebook.errors import UsageError
from tunebook.records import ItemScore
from tunebook.statistics.estimate import (
    clustered_interval,
    mean_estimate,
    proportion_estimate,
    ratio_estimate,
    retention_estimate,
)
from tunebook.statistics.items import examples_hash


def rows(values, **more) -> list[ItemScore]:
    return [ItemScore(f"q{i}", "h", "run_1", v, **more) for i, v in enumerate(values)]


def test_with_equal_lengths_the_interval_is_the_t_interval_of_the_mean() -> None:
    values = [1.0, 2.0, 2.5, 4.0, 0.5]
    interval = clustered_interval([(value * 8, 8) for value in values])
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert interval == pytest.approx(expected)


def test_one_document_has_no_interval() -> None:
    assert clustered_interval([(4.0, 2)]) is None


def test_a_loss_that_is_not_finite_has_no_interval() -> None:
    assert clustered_interval([(math.nan, 2), (1.0, 2)]) is None


def test_a_ratio_is_of_sums_and_its_interval_counts_documents_not_rows() -> None:
    lines = [
        ItemScore("a", "h", "r", 4.0, n_units=2, cluster="x"),
        ItemScore("b", "h", "r", 9.0, n_units=6, cluster="x"),
        ItemScore("c", "h", "r", 2.0, n_units=2, cluster="y"),
    ]
    found = ratio_estimate(lines)
    assert (found.score, found.n, found.clusters, found.method) == (1.5, 3, 2, "t")
    assert found.interval == pytest.approx(clustered_interval([(13.0, 8), (2.0, 2)]))


def test_repeats_are_averaged_per_item_so_that_an_item_counts_once() -> None:
    lines = [ItemScore("a", "h", "r", v, repeat=k) for k, v in enumerate((0.0, 50.0, 100.0))]
    lines.append(ItemScore("b", "h", "r", 90.0))
    found = mean_estimate(lines)
    assert (found.score, found.n) == (70.0, 2)


def test_the_bca_interval_is_scipys_and_does_not_change_from_call_to_call() -> None:
    values = np.random.default_rng(1).lognormal(size=40)
    found = mean_estimate(rows(values.tolist()), "bca").interval
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert found == pytest.approx(tuple(expected))
    assert found == mean_estimate(rows(values.tolist()), "bca").interval
    assert found != mean_estimate(rows(values.tolist()), "bca", seed=1).interval


def test_a_handful_of_items_has_the_t_interval_for_a_bootstrap_would_be_too_sure() -> None:
    few = rows([10.0, 50.0, 90.0, 80.0])
    assert mean_estimate(few, "bca").interval == mean_estimate(few).interval


@pytest.mark.parametrize(("held", "n"), [(0, 20), (7, 20), (20, 20), (1, 1)])
def test_a_share_has_wilsons_interval(held: int, n: int) -> None:
    found = proportion_estimate(rows([1.0] * held + [0.0] * (n - held)))
    assert found.interval == pytest.approx(proportion_confint(held, n, method="wilson"))
    assert found.score == held / n


def test_a_share_over_games_is_uncertain_by_games_even_when_all_agree() -> None:
    lines = [ItemScore(str(i), "h", "r", 1.0, cluster=str(i % 4)) for i in range(400)]
    assert proportion_estimate(lines).interval == pytest.approx(
        proportion_confint(4, 4, method="wilson")
    )
    mixed = [ItemScore(str(i), "h", "r", float(i % 4 < 2), cluster=str(i % 4)) for i in range(400)]
    low, high = proportion_estimate(mixed).interval
    assert high - low > 0.5  # 400 independent items would give 0.1


def test_scores_all_alike_are_not_certain_where_the_scale_is_known() -> None:
    unlike = 1 - proportion_confint(20, 20, method="wilson")[0]
    found = mean_estimate(rows([100.0] * 20), "bca", scale=(0, 100))
    assert found.interval == pytest.approx((100 - 100 * unlike, 100))
    found = mean_estimate(rows([60.0] * 20), "bca", scale=(0, 100))
    assert found.interval == pytest.approx((60 - 60 * unlike, 60 + 40 * unlike))


def test_what_is_missing_is_counted_and_bounded_and_never_zero() -> None:
    found = mean_estimate(rows([80.0, 60.0, None, None]), scale=(0, 100))
    assert (found.score, found.n, found.missing, found.bounds) == (70.0, 2, 2, (35.0, 85.0))


def test_a_share_needs_zero_or_one() -> None:
    with pytest.raises(UsageError, match=r"item q1 scores 0\.3; a share needs 0 or 1"):
        proportion_estimate(rows([1.0, 0.3]))


def test_with_nothing_scored_there_is_nothing_to_estimate() -> None:
    with pytest.raises(UsageError, match="no item has a score"):
        mean_estimate(rows([None, None]))


def test_rows_of_two_runs_in_one_are_refused() -> None:
    with pytest.raises(UsageError, match="item q0 has two rows for repeat 0"):
        mean_estimate([*rows([1.0]), *rows([2.0])])


def test_the_examples_hash_is_of_the_items_asked_whatever_their_order_and_scores() -> None:
    one, other = rows([1.0, 2.0]), rows([5.0, None])
    assert examples_hash(one) == examples_hash(other[::-1]) == mean_estimate(one).examples_hash
    assert examples_hash(one) != examples_hash(one[:1])
    # A boundary moved between id and hash makes another item.
    assert examples_hash([ItemScore("ab", "c", "r", 1.0)]) != examples_hash(
        [ItemScore("a", "bc", "r", 1.0)]
    )


def test_retention_is_the_share_kept_of_what_the_base_knew() -> None:
    draw = np.random.default_rng(0)
    tokens = draw.integers(50, 500, 60)
    base, lost = draw.normal(3, 0.2, 60), draw.normal(0.3, 0.1, 60)

    def losses(per_token) -> list[ItemScore]:
        pairs = zip((per_token * tokens).tolist(), tokens.tolist(), strict=True)
        return [ItemScore(f"d{i}", "h", "r", s, n) for i, (s, n) in enumerate(pairs)]

    found = retention_estimate(losses(base + lost), losses(base), losses(np.full(60, 7.0)))
    had, gone = (tokens * (7 - base)).sum(), (tokens * lost).sum()
    assert found.score == pytest.approx(1 - gone / had)
    assert found.interval[0] < found.score < found.interval[1] < 1
    assert found.interval[1] - found.interval[0] == pytest.approx(4 * found.error, rel=0.1)
    assert retention_estimate(losses(base), losses(base), losses(base + 4)).score == 1
    with pytest.raises(UsageError, match="nothing to keep"):
        retention_estimate(losses(base), losses(base), losses(base))
    with pytest.raises(UsageError, match="the same examples from all three"):
        retention_estimate(losses(base)[:5], losses(base), losses(base))
