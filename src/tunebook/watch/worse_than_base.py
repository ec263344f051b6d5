"""A model that is worse than what it was made from."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.documents import ENOUGH, FEWEST
from tunebook.watch.run_log import RunLog

FALSE_ALARMS = 0.001
_LEAST_RISE = 0.01


def find_worse_than_base(log: RunLog) -> Verdict | None:
    """Find that the last held-out loss is over 1 % above that of the base, one-sided paired test.

    Tested once, over documents, at p < `FALSE_ALARMS`. Without losses per document (imported
    curves) the last two validations must both be above it.
    """
    documents = log.documents
    evidence: dict[str, object]
    if len(documents) >= FEWEST and len(documents.steps) > 1:
        steps, losses = documents.steps, documents.losses
        rise = documents.rise(-1, 0)
        if rise.p >= FALSE_ALARMS:
            return None
        evidence = {
            "difference": rise.difference,
            "interval": rise.interval(),
            "p": rise.p,
            "documents": len(documents),
        }
        if len(documents) < ENOUGH:
            evidence["power"] = f"low: {len(documents)} documents, and {ENOUGH} are wanted"
    else:
        known = [v for v in log.validations if np.isfinite(v.loss)]
        steps, losses = [v.step for v in known], np.array([v.loss for v in known])
        if len(known) < 3 or losses[-2] <= (1 + _LEAST_RISE) * losses[0]:
            return None
        evidence = {"coarse": "two validations in a row; no losses per document to test with"}
    if steps[0] != 0 or losses[-1] <= (1 + _LEAST_RISE) * losses[0]:
        return None
    best = int(losses[1:].argmin()) + 1
    helped = losses[best] < losses[0]
    return Verdict(
        kind="worse_than_base",
        step=steps[-1],
        last_step=steps[-1],
        cause=(
            f"the held-out loss is {format_number(float(losses[-1]))} at step {steps[-1]}, and "
            f"{format_number(float(losses[0]))} of the base"
        ),
        confidence="likely",
        evidence={
            "base_loss": float(losses[0]),
            "last_loss": float(losses[-1]),
            "best_loss": float(losses[best]),
            "best_step": steps[best],
            "best_is_better_than_base": bool(helped),
            **evidence,
        },
        next_action=(
            f"use the best weights, of step {steps[best]}"
            if helped
            else "use the base; lower train.learning_rate, and look at how its rows are laid out"
        ),
    )
