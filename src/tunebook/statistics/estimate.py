"""One run's score with its interval."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy import special

from tunebook.errors import UsageError
from tunebook.records import Estimate, ItemScore
from tunebook.statistics.items import Array, Item, cluster_sums, collect_items, hash_keys

RESAMPLES = 10_000
FITTED_RESAMPLES = 2_000
"""As many where each resample needs a fit of its own."""
CONFIDENCE = 0.95
FEWEST_RESAMPLED = 6
"""Below this many clusters a bootstrap is too sure of itself; no sign flip reaches 5 % either."""
MOST_RESAMPLED = 1_000
"""More clusters than this are added up to as many before they are resampled, which then takes a
second and not minutes; sums of independent clusters are independent, and the t quantile of 999
degrees of freedom is that of the normal."""


def ratio_estimate(rows: Iterable[ItemScore], scale: tuple[float, float] | None = None) -> Estimate:
    """Give sum(value) / sum(n_units) with its clustered interval: losses, bits per byte.

    `scale` has the lowest and highest value a unit can have, for `bounds`.
    """
    return _estimate(list(collect_items(rows).values()), "t", scale)


def mean_estimate(
    rows: Iterable[ItemScore],
    method: Literal["t", "bca"] = "t",
    scale: tuple[float, float] | None = None,
    seed: int = 0,
) -> Estimate:
    """Give the mean of item means, each item counting once, with its interval.

    `bca` (bias-corrected bootstrap of clusters) suits bounded or heavy-tailed scores; `t` the rest.
    Scores that are all alike on a known scale have `alike_interval`.
    """
    items = [per_unit(item) for item in collect_items(rows).values()]
    return _estimate(items, method, scale, seed)


def proportion_estimate(rows: Iterable[ItemScore], seed: int = 0) -> Estimate:
    """Give the share of items that hold (value 1, else 0) with its interval.

    Wilson's interval for items that stand alone; a bootstrap of whole clusters for others.
    """
    items = [per_unit(item) for item in collect_items(rows).values()]
    for item in items:
        if wrong := [value for value in item.values if value not in (0, 1)]:
            raise UsageError(f"item {item.key[0]} scores {wrong[0]:g}; a share needs 0 or 1")
    alone = all(not item.cluster and len(item.values) < 2 for item in items)
    return _estimate(items, "wilson" if alone else "bca", (0.0, 1.0), seed)


def retention_estimate(
    tuned: Iterable[ItemScore],
    base: Iterable[ItemScore],
    unigram: Iterable[ItemScore],
    seed: int = 0,
) -> Estimate:
    """Give the share that tuning kept of what the base knew beyond word counts.

    All three are summed losses of the same items: 1 - (tuned - base) / (unigram - base), 1 when
    nothing was lost and 0 when the tuned model is as poor as a unigram model; below 0 is possible,
    and above 1 too. The interval is a BCa bootstrap of clusters. UsageError when the items differ
    or the base is no better than the unigram model.
    """
    kinds = [collect_items(rows) for rows in (tuned, base, unigram)]
    if not kinds[0].keys() == kinds[1].keys() == kinds[2].keys():
        raise UsageError("retention needs the losses of the same examples from all three models")
    lines = [tuple(kind[key].mean for kind in kinds) for key in kinds[1]]
    known = [
        (item, u - t, u - b)
        for item, (t, b, u) in zip(kinds[1].values(), lines, strict=True)
        if t is not None and b is not None and u is not None
    ]
    sums, counts = cluster_sums(
        [item for item, _, _ in known], [kept for _, kept, _ in known], [had for *_, had in known]
    )
    if not known or counts.sum() <= 0:
        raise UsageError(
            "the base is no better than word counts on these, so it has nothing to keep"
        )
    return Estimate(
        score=math.fsum(sums) / math.fsum(counts),
        interval=bootstrap_interval(sums, counts, seed),
        n=len(known),
        missing=sum(item.missing for kind in kinds for item in kind.values()),
        clusters=len(sums),
        examples_hash=hash_keys(kinds[1]),
        method="bca",
        error=ratio_error(sums, counts) if len(sums) > 1 else None,
    )


def _estimate(
    items: Sequence[Item],
    method: Literal["t", "bca", "wilson"],
    scale: tuple[float, float] | None,
    seed: int = 0,
) -> Estimate:
    sums, counts = ratio_sums(items)
    score = math.fsum(sums) / math.fsum(counts)
    interval: tuple[float, float] | None
    if method == "wilson":
        interval = wilson_interval(score * len(sums), len(sums))
    elif scale and len(sums) > 1 and np.ptp(sums / counts) == 0:
        method, interval = "wilson", alike_interval(score, len(sums), scale)
    elif method == "bca":
        interval = bootstrap_interval(sums, counts, seed)
    else:
        interval = clustered_interval(list(zip(sums, counts, strict=True)))
    if scale and interval:  # the t interval of a few scores may reach beyond what there can be
        interval = max(interval[0], scale[0]), min(interval[1], scale[1])
    missing = sum(item.missing for item in items)
    bounds = [
        math.fsum(item.mean_with(value) for item in items) / math.fsum(i.n_units for i in items)
        for value in scale or ()
    ]
    return Estimate(
        score=score,
        interval=interval,
        n=sum(bool(item.values) for item in items),
        missing=missing,
        clusters=len(sums),
        examples_hash=hash_keys(item.key for item in items),
        method=method,
        error=ratio_error(sums, counts) if len(sums) > 1 else None,
        bounds=(bounds[0], bounds[1]) if missing and bounds else None,
    )


def per_unit(item: Item) -> Item:
    """Give the item with its values divided by its units, so that it counts as one."""
    return replace(item, n_units=1, values=[value / item.n_units for value in item.values])


def ratio_sums(items: Iterable[Item]) -> tuple[Array, Array]:
    """Give values and units added up over clusters; UsageError when all items are missing."""
    scored = [(item, item.mean) for item in items if item.mean is not None]
    if not scored:
        raise UsageError("no item has a score, so there is nothing to estimate")
    means, units = [mean for _, mean in scored], [item.n_units for item, _ in scored]
    sums, counts = cluster_sums([item for item, _ in scored], means, units)
    return sums, counts


def wilson_interval(held: float, n: int) -> tuple[float, float]:
    """Give Wilson's score interval (Wilson, 1927) of `held` out of `n`."""
    from scipy import stats  # half a second that training does not need

    found = stats.binomtest(round(held), n).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def alike_interval(score: float, n: int, scale: tuple[float, float]) -> tuple[float, float]:
    """Give the interval of n scores that are all alike, on a scale of (lowest, highest).

    They have no spread to estimate from. As many of those not seen may differ as Wilson's interval
    of n out of n allows, and these are put at either end of the scale.
    """
    unlike = 1 - wilson_interval(n, n)[0]
    return score - unlike * (score - scale[0]), score + unlike * (scale[1] - score)


def clustered_interval(
    clusters: Sequence[tuple[float, float]], confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Give the confidence interval of sum(s) / sum(n) over clusters (s, n).

    Formula: the ratio estimator (Cochran, Sampling Techniques, 1977, section 6.3): u_c = s_c -
    L n_c, SE = sqrt(C / (C - 1) * sum u_c^2) / N, and the t quantile with C - 1 degrees of
    freedom. None with fewer than two clusters or a score that is not finite.
    """
    sums, counts = (np.array(column, float) for column in zip(*clusters, strict=True))
    score = math.fsum(sums) / math.fsum(counts)
    if len(sums) < 2 or not math.isfinite(score):
        return None
    half = float(special.stdtrit(len(sums) - 1, 0.5 + confidence / 2)) * ratio_error(sums, counts)
    return score - half, score + half


def ratio_error(sums: Array, counts: Array) -> float:
    """Give the standard error of sum(s) / sum(n) over at least two clusters."""
    n_clusters, total = len(sums), math.fsum(counts)
    spread = math.fsum((sums - math.fsum(sums) / total * counts) ** 2)
    return math.sqrt(n_clusters / (n_clusters - 1) * spread) / total


def bootstrap_interval(sums: Array, counts: Array, seed: int) -> tuple[float, float] | None:
    """Give the BCa bootstrap interval (scipy's) of sum(s) / sum(n), whole clusters drawn.

    None with fewer than two clusters, or fewer than six that are all alike. With fewer than six, or
    where the bootstrap has no spread to correct, the clustered t interval stands in.
    """
    if len(sums) < 2:
        return None
    score = math.fsum(sums) / math.fsum(counts)
    if ratio_error(sums, counts) == 0:
        return None if len(sums) < FEWEST_RESAMPLED else (score, score)
    if len(sums) < FEWEST_RESAMPLED:
        return clustered_interval(list(zip(sums, counts, strict=True)))
    from scipy import stats

    sums, counts = at_most(sums), at_most(counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (sums, counts),
            lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis),
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=batch_of(len(sums)),
            confidence_level=CONFIDENCE,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    if not math.isfinite(found.low) or not math.isfinite(found.high):
        return clustered_interval(list(zip(sums, counts, strict=True)))
    return float(found.low), float(found.high)


def at_most(values: Array, most: int = MOST_RESAMPLED) -> Array:
    """Add clusters up by place until there are no more than `most`."""
    if len(values) <= most:
        return values
    return np.bincount(np.arange(len(values)) % most, values).astype(np.float64)


def batch_of(n: int) -> int:
    """Give how many resamples of n numbers to hold at once: about eight megabytes of them."""
    return max(1, 1_000_000 // n)
