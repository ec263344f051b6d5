"""How many times as fast, of matched steps, with intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# The first step makes what later ones use again: the optimizer's state, blocks of memory, kernels.
WARM_UP_STEPS = 2
_LEAST_STEPS = 6


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast: seconds of all matched steps together, as a user waits for them.

    The ends of its 95 % interval are None with fewer than six steps. `median_step` is the median of
    the ratios of single steps, in which the steps with a long row to pad to count no more than
    others.
    """

    value: float
    low: float | None
    high: float | None
    steps: int
    median_step: float

    def __str__(self) -> str:
        ends = "no interval" if self.low is None else f"{self.low:.2f} to {self.high:.2f}"
        return f"{self.value:.2f} ({ends}, {self.steps} steps)"


def ratio_of(slower: Sequence[float], faster: Sequence[float]) -> Ratio:
    """Compare the seconds of matched steps, the warm-up already left out.

    The interval is a jackknife's of the logarithm, with the t distribution (Efron and Tibshirani
    1993, chapter 11): steps are left out in pairs, so what meets both contenders cancels.
    """
    a, b = np.asarray(slower, float), np.asarray(faster, float)
    n, value = len(a), float(a.sum() / b.sum())
    low = high = None
    if n >= _LEAST_STEPS:
        without = np.log((a.sum() - a) / (b.sum() - b))
        error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
        half = float(stats.t.ppf(0.975, n - 1)) * error
        low, high = value * math.exp(-half), value * math.exp(half)
    median = statistics.median(x / y for x, y in zip(slower, faster, strict=True))
    return Ratio(value, low, high, n, median)
