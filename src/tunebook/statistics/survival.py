"""How long it goes well: plies until the first illegal move, tokens until the first loop."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tunebook.errors import UsageError
from tunebook.statistics.estimate import CONFIDENCE


@dataclass(frozen=True, slots=True)
class Survival:
    """The share still without a failure after each of `times`, with pointwise 95 % limits.

    `median` is the first time by which half have failed; None when fewer ever do.
    """

    times: tuple[float, ...]
    surviving: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    median: float | None
    n: int
    failed: int


def survival(times: Sequence[float], failed: Sequence[bool]) -> Survival:
    """Estimate survival by Kaplan and Meier (scipy's), log-log limits.

    `times[i]` is when item i failed, or, where `failed[i]` is false, when it ended well: what would
    have come later is unknown, not good. UsageError when there is no item.
    """
    if not len(times) or len(times) != len(failed):
        raise UsageError(
            f"{len(times)} times and {len(failed)} outcomes; give one of each per item"
        )
    data = stats.CensoredData(
        uncensored=[t for t, f in zip(times, failed, strict=True) if f],
        right=[t for t, f in zip(times, failed, strict=True) if not f],
    )
    curve = stats.ecdf(data).sf
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # no limits at 0 and 1: given as None
        limits = curve.confidence_interval(CONFIDENCE, method="log-log")
    at = np.asarray(curve.quantiles, float)
    left = np.asarray(curve.probabilities, float)
    half = at[left <= 0.5]
    return Survival(
        times=tuple(at.tolist()),
        surviving=tuple(left.tolist()),
        low=_known(limits.low.probabilities),
        high=_known(limits.high.probabilities),
        median=float(half[0]) if len(half) else None,
        n=len(times),
        failed=int(np.sum(failed)),
    )


def _known(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
