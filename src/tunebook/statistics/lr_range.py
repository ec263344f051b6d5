"""What a learning-rate range test shows (Smith 2017): one run whose rate rises at every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Share of the average that a step's loss replaces.
_SMOOTHING = 0.1
_FEWEST_STEPS = 20
_TOLD = 3.0


@dataclass(frozen=True, slots=True)
class LrRange:
    """Where the smoothed loss fell fastest (`advice`) and was lowest; None where it never fell.

    `words` says it in a sentence.
    """

    advice: float | None
    lowest: float | None
    words: str


def read_lr_range(rates: Sequence[float], losses: Sequence[float]) -> LrRange:
    """Read the rates and losses of the steps of a range test.

    The loss is averaged exponentially, and its fall from the first steps must be three times its
    own noise to be called one: the lowest of many averages is looked at. The slope is that over
    the logarithm of the rate.
    """
    n = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    if n < _FEWEST_STEPS:
        return LrRange(None, None, f"cannot tell: {n} steps, and it takes {_FEWEST_STEPS}")
    own = np.asarray(losses[:n], dtype=float)
    smooth = np.empty(n)
    mean = 0.0
    for i, loss in enumerate(own):
        mean += _SMOOTHING * (loss - mean)
        smooth[i] = mean / (1 - (1 - _SMOOTHING) ** (i + 1))
    # The first averages are of a few steps only.
    first = max(5, n // 10)
    start = float(np.mean(own[:first]))
    lowest = first + int(smooth[first:].argmin())
    # Of the difference of the two averages, from that of neighbouring steps.
    step_noise = float(np.std(np.diff(own))) / math.sqrt(2)
    noise = step_noise * math.sqrt(1 / first + _SMOOTHING / (2 - _SMOOTHING))
    if start - smooth[lowest] < _TOLD * noise:
        return LrRange(
            None,
            None,
            f"cannot tell: the loss fell by {start - smooth[lowest]:.3g} nats, within its noise; "
            "begin lower, or take more steps",
        )
    slope = np.gradient(smooth[: lowest + 1], np.log(np.asarray(rates[: lowest + 1])))
    fastest = first + int(slope[first:].argmin())
    advice = float(f"{rates[fastest]:.2g}")
    beyond = "rose" if lowest < n - 1 else "was still falling"
    return LrRange(
        advice,
        float(rates[lowest]),
        f"the loss fell fastest at a learning rate of {advice:g}, was lowest at "
        f"{rates[lowest]:.2g}, and {beyond} {'from there' if lowest < n - 1 else 'at the end'}",
    )
