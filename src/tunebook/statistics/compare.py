"""Two runs on the same items: different, equivalent or cannot tell.

Everything is made of d_i, the paired differences of item means. The interval is a BCa bootstrap,
the test of "different" flips signs (exact where there are few items), "equivalent" takes two
one-sided tests (Schuirmann, 1987) against a practical margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from scipy import stats

from tunebook.errors import UsageError
from tunebook.records import Comparison, ComparisonVerdict, ItemScore
from tunebook.statistics.estimate import (
    FEWEST_RESAMPLED,
    RESAMPLES,
    at_most,
    batch_of,
    bootstrap_interval,
    ratio_error,
)
from tunebook.statistics.items import Array, Item, Key, cluster_sums, collect_items, hash_keys

ALPHA = 0.05
POWER = 0.8
DEFAULT_MARGIN = 3.0
"""Points on a scale of 0-100; callers on another scale give their own."""
MOST_MISSING = 0.02
FEWEST_MISSING_P = 0.05


def compare(
    rows_a: Iterable[ItemScore],
    rows_b: Iterable[ItemScore],
    *,
    margin: float = DEFAULT_MARGIN,
    seed: int = 0,
    shared_only: bool = False,
    scale: tuple[float, float] | None = None,
) -> Comparison:
    """Compare two runs item by item; the difference is the first minus the second.

    Where items have `n_units`, it is sum(d) / sum(n_units), as of losses per token. `scale` has the
    lowest and highest value a unit can have, for the bounds on what is missing; None: those seen.
    UsageError when the items differ (unless `shared_only`), or nothing is left to compare.
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise UsageError(f"the margin is {margin:g}; it must be 0 or more")
    items_a, items_b = _same_items(collect_items(rows_a), collect_items(rows_b), shared_only)
    pairs = list(zip(items_a, items_b, strict=True))
    scored = [(a, a.mean - b.mean) for a, b in pairs if a.mean is not None and b.mean is not None]
    if not scored:
        raise UsageError("no item has a score in both runs, so there is nothing to compare")
    _check(pairs)
    sums, counts = cluster_sums(
        [a for a, _ in scored], [d for _, d in scored], [a.n_units for a, _ in scored]
    )
    n, clusters = len(scored), len(sums)
    difference = math.fsum(sums) / math.fsum(counts)
    error = ratio_error(sums, counts) if clusters > 1 else None
    found = Comparison(
        verdict="cannot tell",
        difference=difference,
        interval=bootstrap_interval(sums, counts, seed),
        p=sign_flip_p(sums, seed) if clusters > 1 else None,
        n=n,
        n_needed=None,
        detectable=None if error is None else (_z(ALPHA / 2) + _z(1 - POWER)) * error,
        margin=margin,
        missing_a=sum(item.missing for item in items_a),
        missing_b=sum(item.missing for item in items_b),
        sd=None if error is None else error * math.sqrt(n),
        p_equivalent=_equivalence_p(difference, error, margin, clusters),
        clusters=clusters,
        examples_hash=hash_keys(item.key for item in items_a),
    )
    if reason := _too_much_missing(items_a, items_b):
        return replace(found, reason=reason, bounds=_bounds(pairs, scale), scale=scale)
    return decided(found, found.p, looks=1)


def compare_many(
    rows_by_run: Mapping[str, Sequence[ItemScore]],
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    margin: float = DEFAULT_MARGIN,
    seed: int = 0,
    shared_only: bool = False,
    scale: tuple[float, float] | None = None,
) -> dict[tuple[str, str], Comparison]:
    """Compare the pairs (None: all of them), p adjusted by Holm's method over those shown."""
    shown = list(combinations(rows_by_run, 2)) if pairs is None else list(pairs)
    found = [
        compare(
            rows_by_run[a],
            rows_by_run[b],
            margin=margin,
            seed=seed,
            shared_only=shared_only,
            scale=scale,
        )
        for a, b in shown
    ]
    return dict(zip(shown, adjusted(found), strict=True))


def compare_by_tag(
    rows_by_run: Mapping[str, Sequence[ItemScore]],
    pairs: Sequence[tuple[str, str]],
    *,
    margin: float = DEFAULT_MARGIN,
    seed: int = 0,
    scale: tuple[float, float] | None = None,
) -> dict[tuple[str, str], dict[str, Comparison]]:
    """Compare pairs on the items of each tag that both have, p adjusted by Holm over all of it.

    A tag that either run gives an item is that item's. Tags of which no item has a score in both
    are left out.
    """
    found: dict[tuple[str, str], dict[str, Comparison]] = {pair: {} for pair in pairs}
    for pair in pairs:
        sides = [rows_by_run[name] for name in pair]
        scored = [{_key(row) for row in rows if row.value is not None} for rows in sides]
        keys: dict[str, set[Key]] = {}
        for row in (*sides[0], *sides[1]):
            for tag in row.tags:
                keys.setdefault(tag, set()).add(_key(row))
        for tag in sorted(keys):
            if keys[tag] & scored[0] & scored[1]:
                a, b = ([row for row in rows if _key(row) in keys[tag]] for rows in sides)
                found[pair][tag] = compare(
                    a, b, margin=margin, seed=seed, shared_only=True, scale=scale
                )
    after = iter(adjusted([one for tags in found.values() for one in tags.values()]))
    return {pair: {tag: next(after) for tag in tags} for pair, tags in found.items()}


def _key(row: ItemScore) -> Key:
    return row.item_id, row.item_hash


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Give the verdicts again with p adjusted by Holm's method over all of them."""
    tested = [c for c in comparisons if c.p is not None and not c.reason]
    ps = iter(holm([c.p for c in tested if c.p is not None]))
    return [
        c if c.p is None or c.reason else decided(c, next(ps), looks=len(tested))
        for c in comparisons
    ]


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm, 1979)."""
    order = np.argsort(ps)
    raised = np.asarray(ps, float)[order] * np.arange(len(ps), 0, -1)
    out = np.empty(len(ps))
    out[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return [float(p) for p in out]


def decided(found: Comparison, p: float | None, looks: int) -> Comparison:
    """Give the verdict and how many items would decide, `p` corrected for so many looks."""
    verdict: ComparisonVerdict = "cannot tell"
    if p is not None and p < ALPHA:
        verdict = "different"
    elif found.p_equivalent is not None and found.p_equivalent < ALPHA:
        verdict = "equivalent"
    needed = _needed(found, ALPHA / looks) if verdict == "cannot tell" else None
    return replace(found, verdict=verdict, n_needed=needed, p_adjusted=p, reason="")


def _needed(found: Comparison, alpha: float) -> int | None:
    """Give how many items would decide with 80 % power if the difference stays as it is.

    Either the difference is shown (z of alpha / 2), or, where it is within the margin, that it is
    (z of alpha): the smaller number of the two, and no fewer than any verdict needs.
    """
    if found.sd is None:
        return None
    apart = abs(found.difference)
    wanted = [
        (_z(alpha / 2) + _z(1 - POWER), apart),
        (_z(ALPHA) + _z(1 - POWER), found.margin - apart),
    ]
    numbers = [(z * found.sd / gap) ** 2 for z, gap in wanted if gap > 0]
    fewest = max(found.n + 1, math.ceil(found.n * FEWEST_RESAMPLED / found.clusters))
    return max(fewest, math.ceil(min(numbers))) if numbers else None


def sign_flip_p(sums: Array, seed: int) -> float:
    """Give the p-value (scipy's) of the sum's size when the sign of each cluster is random."""
    sums = at_most(sums)
    return float(
        stats.permutation_test(
            (sums,),
            lambda s, axis: s.sum(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=batch_of(len(sums)),
            rng=np.random.default_rng(seed),
        ).pvalue
    )


def _equivalence_p(
    difference: float, error: float | None, margin: float, clusters: int
) -> float | None:
    """Give the larger p of the two one-sided t tests of the difference against the margins.

    None with fewer than six clusters: a few that happen to be alike have a spread near 0.
    """
    if error is None or clusters < FEWEST_RESAMPLED:
        return None
    if error == 0:
        return float(abs(difference) >= margin and difference != 0)
    return float(stats.t.sf((margin - abs(difference)) / error, clusters - 1))


def _same_items(
    a: Mapping[Key, Item], b: Mapping[Key, Item], shared_only: bool
) -> tuple[list[Item], list[Item]]:
    shared = [key for key in a if key in b]
    if len(shared) < max(len(a), len(b)) and not shared_only:
        raise UsageError(
            f"the examples differ: {len(shared)} are shared, {len(a) - len(shared)} are only in "
            f"the first and {len(b) - len(shared)} only in the second; score both on the same "
            "examples, or compare on the shared ones with --shared-only"
        )
    if not shared:
        raise UsageError("the two share no example, so there is nothing to compare")
    return [a[key] for key in shared], [b[key] for key in shared]


def _check(pairs: Iterable[tuple[Item, Item]]) -> None:
    for a, b in pairs:
        if (a.n_units, a.cluster) != (b.n_units, b.cluster):
            raise UsageError(
                f"item {a.key[0]} counts {a.n_units:g} units in the first and {b.n_units:g} in the "
                f"second, in clusters {a.cluster!r} and {b.cluster!r}; compare per byte or per item"
            )
        if not all(math.isfinite(value) for value in (*a.values, *b.values)):
            raise UsageError(
                f"item {a.key[0]} has a score that is not a finite number; leave it out as missing "
                "(null), or score it again"
            )


def _too_much_missing(items_a: Sequence[Item], items_b: Sequence[Item]) -> str:
    """Say why what is missing forbids a verdict; empty when it does not."""
    table = [
        [sum(item.missing for item in items), sum(len(item.values) for item in items)]
        for items in (items_a, items_b)
    ]
    shares = [missing / (missing + there) for missing, there in table]
    if max(shares) > MOST_MISSING:
        return f"{max(shares):.1%} of the scores are missing, more than {MOST_MISSING:.0%}"
    if (p := float(stats.fisher_exact(table).pvalue)) < FEWEST_MISSING_P:
        counts = f"{table[0][0]} scores are missing in one run and {table[1][0]} in the other"
        return f"{counts} (p {p:.3f})"
    return ""


def _bounds(
    pairs: Sequence[tuple[Item, Item]], scale: tuple[float, float] | None
) -> tuple[float, float]:
    """Give the difference if all that is missing favoured the second run, and the first."""
    seen = [value / item.n_units for pair in pairs for item in pair for value in item.values]
    low, high = scale or (min(seen), max(seen))
    units = math.fsum(a.n_units for a, _ in pairs)
    worst, best = (
        math.fsum(a.mean_with(for_a) - b.mean_with(for_b) for a, b in pairs) / units
        for for_a, for_b in ((low, high), (high, low))
    )
    return worst, best


def _z(tail: float) -> float:
    return float(stats.norm.isf(tail))
