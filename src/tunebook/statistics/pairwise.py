"""Two answers side by side: how often one is preferred, and whether the judge can be believed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from tunebook.errors import UsageError
from tunebook.records import Estimate, ItemScore
from tunebook.statistics.compare import sign_flip_p
from tunebook.statistics.estimate import (
    CONFIDENCE,
    FEWEST_RESAMPLED,
    FITTED_RESAMPLES,
    batch_of,
    mean_estimate,
)
from tunebook.statistics.items import (
    Array,
    Key,
    cluster_codes,
    cluster_sums,
    collect_items,
    hash_keys,
)

CONSISTENT = 0.8
HARDLY_CONSISTENT = 0.6
VAGUE = 0.9
"""A share from 0.05 to 0.95 could be anything: so few pairs do not determine the fit."""
_NEWTON_STEPS = 10


@dataclass(frozen=True, slots=True)
class PairScore:
    """One judgement of two answers to one item: 1 for the answer of `a`, 1/2 for a tie, 0 for `b`.

    `outcome` is None where the judge gave none. `a_first` says in which order the two were shown;
    lengths are in characters, None where unknown.
    """

    item_id: str
    item_hash: str
    a: str
    b: str
    a_first: bool
    outcome: float | None
    length_a: int | None = None
    length_b: int | None = None
    repeat: int = 0
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often the answers of `a` are preferred to those of `b`, as shares 0..1.

    `consistency` is the share of items whose outcome is the same in both orders, `first_rate` how
    often the answer shown first wins and `position_p` the p-value that this is by chance; None
    where no item was judged in both orders. `estimate` is None when `level` is refuse.
    """

    a: str
    b: str
    estimate: Estimate | None
    consistency: float | None
    first_rate: float | None
    position_p: float | None
    both_orders: int
    level: Literal["fine", "warn", "refuse"]
    message: str


def win_rate(rows: Sequence[PairScore], seed: int = 0) -> WinRate:
    """Give the win rate over items, each the mean of its orders, with what speaks against it.

    A tie counts one half. The interval is a BCa bootstrap of clusters, of items where they have
    none, and the position test flips whole clusters too. UsageError when the rows are
    not all of one pair, or none has an outcome.
    """
    a, b = _one_pair(rows)
    items = collect_items(_scores(rows))
    estimate = mean_estimate(_scores(rows), "bca", scale=(0.0, 1.0), seed=seed)
    by_order = _by_order(rows)
    both = [key for key, found in by_order.items() if None not in found]
    if not both:
        message = "only one order was judged; a judge that prefers a place cannot be told"
        return WinRate(a, b, estimate, None, None, None, 0, "warn", message)
    shown = np.array(
        [by_order[key] for key in both], float
    )  # outcome for `a`: shown second, shown first
    consistency = float(np.isclose(shown[:, 0], shown[:, 1]).mean())
    lead = (shown[:, 1] - shown[:, 0]) / 2
    (leads,) = cluster_sums([items[key] for key in both], lead)
    level: Literal["fine", "warn", "refuse"] = "fine"
    message = ""
    if consistency < CONSISTENT:
        level = "warn" if consistency >= HARDLY_CONSISTENT else "refuse"
        message = (
            f"the judge says the same in both orders for {consistency:.0%} of the items; "
            f"below {CONSISTENT:.0%} is doubtful, below {HARDLY_CONSISTENT:.0%} is no judgement"
        )
    return WinRate(
        a=a,
        b=b,
        estimate=None if level == "refuse" else estimate,
        consistency=consistency,
        first_rate=0.5 + float(lead.mean()),
        position_p=sign_flip_p(leads, seed) if len(leads) > 1 else None,
        both_orders=len(both),
        level=level,
        message=message,
    )


def length_controlled(rows: Sequence[PairScore], seed: int = 0) -> Estimate | None:
    """Give the win rate of `a` were its answers as long as those of `b`.

    Logistic regression of the outcome on tanh(length difference / its SD), taken at difference 0
    (after Dubois et al., Length-Controlled AlpacaEval, 2024, with one judge and one pair); BCa
    bootstrap of clusters, none with fewer than six. None where nothing can be told: lengths or
    outcomes do not vary, or the interval is wider than `VAGUE`.
    """
    _one_pair(rows)
    found: dict[Key, int] = {}
    items = collect_items(_scores(rows))
    for row in rows:
        if row.length_a is None or row.length_b is None:
            raise UsageError(f"item {row.item_id} has no lengths; give those of both answers")
        if row.outcome is not None:
            found[row.item_id, row.item_hash] = row.length_a - row.length_b
    outcome = np.array([items[key].mean for key in found], float)
    longer = np.array(list(found.values()), float)
    if len(found) < 3 or np.ptp(longer) == 0 or np.ptp(outcome) == 0:
        return None
    excess = np.tanh(longer / longer.std(ddof=1))
    codes = cluster_codes([items[key] for key in found])
    n_clusters = int(codes.max()) + 1
    low = high = math.nan
    if n_clusters >= FEWEST_RESAMPLED:
        low, high = stats.bootstrap(
            (np.arange(n_clusters),),
            lambda drawn, axis: _rate_at_equal_length(
                outcome, excess, _times(drawn, n_clusters)[..., codes]
            ),
            vectorized=True,
            n_resamples=FITTED_RESAMPLES,
            batch=batch_of(len(outcome)),
            confidence_level=CONFIDENCE,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        if high - low > VAGUE:
            return None
    return Estimate(
        score=float(_rate_at_equal_length(outcome, excess, np.ones_like(outcome))),
        interval=(float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None,
        n=len(found),
        missing=sum(row.outcome is None for row in rows),
        clusters=n_clusters,
        examples_hash=hash_keys(found),
        method="bca",
    )


def _times(drawn: NDArray[np.int64], n: int) -> Array:
    """Count how often each of n clusters is in each line of `drawn`."""
    lines = drawn.reshape(-1, drawn.shape[-1])
    places = lines + n * np.arange(len(lines))[:, None]
    counts = np.bincount(places.ravel(), minlength=n * len(lines))
    return counts.reshape(*drawn.shape[:-1], n).astype(np.float64)


def _rate_at_equal_length(outcome: Array, excess: Array, times: Array) -> Any:
    """Fit outcome ~ b0 + b1 excess by Newton's method, items counted `times`; give expit(b0).

    All resamples at once, which scipy's optimisers cannot. Where a resample is separable its b grow
    without end, and the steps end it at a rate near 0 or 1.
    """
    level = np.zeros((*times.shape[:-1], 1))
    slope = np.zeros_like(level)
    for _ in range(_NEWTON_STEPS):
        p = special.expit(level + slope * excess)
        weight = times * (p * (1 - p) + 1e-9)
        residual = times * (outcome - p)
        g0, g1 = (part.sum(axis=-1, keepdims=True) for part in (residual, residual * excess))
        h00, h01, h11 = (
            part.sum(axis=-1, keepdims=True)
            for part in (weight, weight * excess, weight * excess**2)
        )
        det = h00 * h11 - h01**2 + 1e-12
        level = level + np.clip((h11 * g0 - h01 * g1) / det, -2, 2)
        slope = slope + np.clip((h00 * g1 - h01 * g0) / det, -2, 2)
    return special.expit(level)[..., 0]


def _scores(rows: Iterable[PairScore]) -> list[ItemScore]:
    """Take the orders as repeats of an item: 2 k and 2 k + 1 for repeat k."""
    return [
        ItemScore(
            row.item_id,
            row.item_hash,
            row.a,
            row.outcome,
            cluster=row.cluster,
            repeat=2 * row.repeat + row.a_first,
        )
        for row in rows
    ]


def _one_pair(rows: Iterable[PairScore]) -> tuple[str, str]:
    pairs = {(row.a, row.b) for row in rows}
    if len(pairs) != 1:
        shown = ", ".join(f"{a} and {b}" for a, b in sorted(pairs)) or "none"
        raise UsageError(f"a win rate is of one pair, always in the same roles; there is {shown}")
    return pairs.pop()


def _by_order(rows: Iterable[PairScore]) -> dict[Key, list[float | None]]:
    """Give the mean outcome of each item shown second and shown first, None where missing."""
    found: dict[Key, tuple[list[float], list[float]]] = {}
    for row in rows:
        orders = found.setdefault((row.item_id, row.item_hash), ([], []))
        if row.outcome is not None:
            orders[row.a_first].append(row.outcome)
    return {
        key: [math.fsum(order) / len(order) if order else None for order in orders]
        for key, orders in found.items()
    }
