"""Medians with intervals, of matched steps."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

# The first step makes what later ones use again: the optimizer's state, blocks of memory, kernels.
WARM_UP_STEPS = 2


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast: the median over matched steps, with its 95 % interval.

    The ends are order statistics, those of the sign test, which asks nothing of the steps'
    distribution; None with fewer than six steps, which no such interval exists for.
    """

    median: float
    low: float | None
    high: float | None
    steps: int

    def __str__(self) -> str:
        ends = "no interval" if self.low is None else f"{self.low:.2f} to {self.high:.2f}"
        return f"{self.median:.2f} ({ends}, {self.steps} steps)"


def ratio_of(slower: Sequence[float], faster: Sequence[float]) -> Ratio:
    """Compare the seconds of matched steps, the warm-up already left out."""
    found = [a / b for a, b in zip(slower, faster, strict=True)]
    ends = stats.quantile_test(found, q=0, p=0.5).confidence_interval(0.95)
    known = ends.low == ends.low and ends.high == ends.high
    return Ratio(
        statistics.median(found),
        float(ends.low) if known else None,
        float(ends.high) if known else None,
        len(found),
    )
