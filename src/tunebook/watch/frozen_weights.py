"""Weights that stay as they are, however often they are updated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunebook.records import StepRecord, Verdict
from tunebook.units import format_percent

LOOKED_AT_STEPS = 5
_AT_FIRST, _LATER = 0.01, 0.05
_SAME = 0.1
_FEWEST = 0.002  # one weight in a sample is the same share every time


def find_frozen_weights(steps: Sequence[StepRecord]) -> Verdict | None:
    """Find that updates left over 99 % of the stored weights unchanged, or later over 95 %.

    The mean of the first five steps counts, later the median of all. The share of changed weights
    is measured on a sample of what the optimizer moves, in its own precision; steps whose learning
    rate is 0 or whose update was left out say nothing. Where there is no gradient, or always the
    same share changes, it is no matter of rounding.
    """
    moving = [
        (step, step.changed_fraction)
        for step in steps
        if step.applied and step.learning_rate != 0 and step.changed_fraction is not None
    ]
    if not moving:
        return None
    shares = np.array([share for _, share in moving], dtype=np.float64)
    at_first, later = float(shares[:LOOKED_AT_STEPS].mean()), float(np.median(shares))
    changed = at_first if at_first < _AT_FIRST else later
    frozen = at_first < _AT_FIRST or (later < _LATER and len(shares) > LOOKED_AT_STEPS)
    if not frozen or not any(s.grad_norm for s, _ in moving) or always_same(shares):
        return None
    first, last = moving[0][0], moving[-1][0]
    return Verdict(
        kind="weights_frozen_by_precision",
        step=first.step,
        last_step=last.step,
        cause=(
            f"a step changes {format_percent(changed)} of the weights: updates this small round to "
            "nothing in the precision that the weights are updated in"
        ),
        confidence="certain",
        evidence={
            "changed_fraction": changed,
            "steps": len(moving),
            "learning_rate": last.learning_rate,
            "grad_norm": last.grad_norm,
        },
        next_action="train with precision: fp32, raise train.learning_rate, or use adamw",
    )


def always_same(shares: NDArray[np.float64]) -> bool:
    """Tell whether the same share of weights changes at every step, a part of them never.

    The first step is left out: the first half of an adapter moves from the second on.
    """
    if len(shares) <= LOOKED_AT_STEPS:
        return bool(len(shares) > 2 and shares[1] > _FEWEST and np.ptp(shares[1:]) == 0)
    fewest, most = np.quantile(shares[1:], [0.25, 0.9]).tolist()
    return bool(most > _FEWEST and fewest > (1 - _SAME) * most)
