"""Weights that stay as they are, however often they are updated."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from tunebook.records import StepRecord, Verdict
from tunebook.units import format_percent

LOOKED_AT_STEPS = 5
_LIMIT = 0.01


def find_frozen_weights(steps: Sequence[StepRecord]) -> Verdict | None:
    """Find that updates of the first steps left over 99 % of the stored weights unchanged.

    The share of changed weights is measured on a sample of what the optimizer moves, in its own
    precision; steps whose learning rate is 0 or whose update was left out say nothing.
    """
    moving = [
        (step, step.changed_fraction)
        for step in steps[:LOOKED_AT_STEPS]
        if step.applied and step.learning_rate and step.changed_fraction is not None
    ]
    if not moving:
        return None
    changed = fmean(share for _, share in moving)
    if changed >= _LIMIT:
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
