"""What a learning-rate range test shows (Smith 2017): one run whose rate rises at every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Steps of a line that smooths: a tenth of the test, an odd number of them.
_FEWEST_SMOOTHED = 7
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

    The loss is smoothed by a line through the steps on both sides of each (Savitzky and Golay
    1964), for an average of the steps before lags behind by a rate twice as high. Its fall from the
    first steps must be three times its own noise to be called one: the lowest of many averages is
    looked at. The slope is that over the logarithm of the rate.
    """
    from scipy.signal import savgol_filter

    n = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    if n < _FEWEST_STEPS:
        return LrRange(None, None, f"cannot tell: {n} steps, and it takes {_FEWEST_STEPS}")
    own = np.asarray(losses[:n], dtype=float)
    window = max(_FEWEST_SMOOTHED, n // 10 | 1)
    smooth = savgol_filter(own, window, 1)
    # Where the fall is counted from, and slopes are a line's end.
    first = max(5, n // 10)
    start = float(np.mean(own[:first]))
    lowest = first + int(smooth[first:].argmin())
    # Of the difference of the two averages, from that of neighbouring steps.
    step_noise = float(np.std(np.diff(own))) / math.sqrt(2)
    # Of a line's end the variance is four times that of its middle.
    smoothed = 4 / window if lowest >= n - window // 2 else 1 / window
    noise = step_noise * math.sqrt(1 / first + smoothed)
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
