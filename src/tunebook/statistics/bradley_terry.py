"""Many models by pairs: strengths, their intervals, and which cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special

from tunebook.errors import UsageError
from tunebook.statistics.compare import ALPHA, holm
from tunebook.statistics.estimate import FEWEST_RESAMPLED, FITTED_RESAMPLES
from tunebook.statistics.items import Array, Key
from tunebook.statistics.pairwise import PairScore

_NEWTON_STEPS = 30
# A weak prior (normal, SD 10 in log-odds) so that a resample in which one wins all still has a fit.
_RIDGE = 0.01


@dataclass(frozen=True, slots=True)
class Strength:
    """A model's strength in log-odds against the mean of all models; 1.0 wins 73 % of the time.

    `interval` is None where a model won all or lost all, for then there is no limit to one side,
    and with fewer than six items.
    """

    name: str
    strength: float
    interval: tuple[float, float] | None
    wins: float
    judged: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Models from the strongest down; models of one group cannot be told apart (Holm, 5 %)."""

    strengths: tuple[Strength, ...]
    groups: tuple[tuple[str, ...], ...]
    n: int


def bradley_terry(rows: Sequence[PairScore], seed: int = 0) -> Standing:
    """Fit strengths to judged pairs by maximum likelihood, ties counted one half.

    Bradley and Terry (1952); intervals are percentiles over 2,000 resamples of whole items, for
    judgements of one item share its luck. UsageError when the models fall into groups that were
    never compared with each other.
    """
    judged = [row for row in rows if row.outcome is not None]
    names = sorted({name for row in judged for name in (row.a, row.b)})
    wins = _wins_per_item(judged, names)
    _check_connected(names, wins.sum(axis=0))
    fitted = _fit(wins.sum(axis=0)[None])[0]
    draw = np.random.default_rng(seed)
    n = len(wins)
    drawn = draw.multinomial(n, np.full(n, 1 / n), FITTED_RESAMPLES)
    resampled = _fit((drawn @ wins.reshape(n, -1)).reshape(-1, len(names), len(names)))
    won, played = wins.sum(axis=(0, 2)), (wins.sum(axis=0) + wins.sum(axis=0).T).sum(axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975), axis=0)
    strengths = [
        Strength(
            name=name,
            strength=float(fitted[i]),
            interval=(
                (float(low[i]), float(high[i]))
                if n >= FEWEST_RESAMPLED and 0 < won[i] < played[i]
                else None
            ),
            wins=float(won[i]),
            judged=round(float(played[i])),
        )
        for i, name in enumerate(names)
    ]
    order = sorted(range(len(names)), key=lambda i: -fitted[i])
    groups = _groups(order, resampled, n)
    return Standing(
        strengths=tuple(strengths[i] for i in order),
        groups=tuple(tuple(names[i] for i in group) for group in groups),
        n=n,
    )


def _wins_per_item(rows: Iterable[PairScore], names: Sequence[str]) -> Array:
    """Give wins[item, i, j]: how often i was preferred to j, ties one half to each."""
    place = {name: i for i, name in enumerate(names)}
    items: dict[Key, Array] = {}
    for row in rows:
        assert row.outcome is not None
        key = (row.item_id, row.item_hash)
        wins = items.setdefault(key, np.zeros((len(names), len(names))))
        wins[place[row.a], place[row.b]] += row.outcome
        wins[place[row.b], place[row.a]] += 1 - row.outcome
    return np.array(list(items.values())).reshape(-1, len(names), len(names))


def _fit(wins_BMM: Array) -> Array:
    """Fit strengths (B, M), mean 0, to win counts by Newton's method, all resamples at once."""
    played = wins_BMM + wins_BMM.transpose(0, 2, 1)
    strength = np.zeros(wins_BMM.shape[:2])
    ridge = _RIDGE * np.eye(wins_BMM.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = special.expit(strength[:, :, None] - strength[:, None, :])
        gradient = (wins_BMM - played * p).sum(axis=2) - _RIDGE * strength
        weight = played * p * (1 - p)
        hessian = np.eye(wins_BMM.shape[1]) * weight.sum(axis=2)[:, :, None] - weight + ridge
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        strength = strength + np.clip(step, -1, 1)
    centred: Array = strength - strength.mean(axis=1, keepdims=True)
    return centred


def _check_connected(names: Sequence[str], wins: Array) -> None:
    from scipy.sparse.csgraph import connected_components

    if len(names) < 2:
        raise UsageError("a standing needs judgements of at least two models")
    count, label = connected_components(wins + wins.T, directed=False)
    if count > 1:
        apart = [name for name, group in zip(names, label, strict=True) if group != label[0]]
        raise UsageError(
            f"{', '.join(apart)} was never compared with {names[0]}, not even by way of others; "
            "judge a pair that joins them"
        )


def _groups(order: Sequence[int], resampled: Array, n: int) -> list[list[int]]:
    """Give the longest stretches of the standing in which no two are told apart.

    p is twice the share of resamples with the other sign, and never below what flipping the signs
    of n items can reach: resamples of a few items agree too easily.
    """
    pairs = list(combinations(range(len(order)), 2))
    gaps = [resampled[:, order[i]] - resampled[:, order[j]] for i, j in pairs]
    ps = [
        min(
            1.0,
            max(2.0 ** (1 - n), 2 * (1 + min((gap <= 0).sum(), (gap >= 0).sum())) / (len(gap) + 1)),
        )
        for gap in gaps
    ]
    apart = {pair for pair, p in zip(pairs, holm(ps), strict=True) if p < ALPHA}
    groups: list[list[int]] = []
    end = 0
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and not any((i, stop) in apart for i in range(start, stop)):
            stop += 1
        if stop > end:
            groups.append([order[i] for i in range(start, stop)])
            end = stop
    return groups
