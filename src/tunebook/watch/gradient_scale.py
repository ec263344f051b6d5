"""Gradients that change their size at once while nothing else does."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.robust import first_of_strongest, level_shifts
from tunebook.watch.run_log import SCALE_FLOOR, RunLog

_WIDTH = 12
_FACTOR = 1.6
_Z = 8.0
_EDGE = 0.75
_SAME_BATCH = 1.3
_SAME_LOSS = 0.08  # of log loss
_FLOOR = 0.05  # of log gradient norms


def find_gradient_scale(log: RunLog) -> Verdict | None:
    """Find the step from which gradient norms are another multiple of what they were.

    Accumulation that is scaled wrongly does this, and so does another number of micro-batches where
    their means are added up. AdamW hides it: the loss goes on as before. It counts where the level
    of log gradient norm changes by a factor of 1.6 at once, 8 standard errors, over 12 steps on
    either side, at batches of the same size and with no jump of the loss.
    """
    norms = np.log(np.where(log.grad_norm > 0, log.grad_norm, np.nan))
    found = level_shifts(norms, _WIDTH, _FLOOR)
    hit = (np.abs(found.shift) > np.log(_FACTOR)) & (np.abs(found.z) > _Z) & (found.edge > _EDGE)
    if not hit.any():
        return None
    sizes = level_shifts(np.log(log.target_tokens), _WIDTH, 0.01).shift
    surprise = level_shifts(log.surprise, _WIDTH, SCALE_FLOOR)
    loss = level_shifts(np.log(np.maximum(log.loss, SCALE_FLOOR)), _WIDTH, 0.01).shift
    hit &= ~(np.abs(sizes) > np.log(_SAME_BATCH)) & ~(np.abs(surprise.z) > _Z)
    # While much is learnt at once, as at the start, gradients shrink by themselves.
    hit &= ~((loss < -_SAME_LOSS) & (found.shift < 0))
    places = first_of_strongest(found, hit, norms)
    if places is None:
        return None
    strongest, place = places
    step, factor = int(log.step[place]), float(np.exp(found.shift[strongest]))
    return Verdict(
        kind="gradient_scale",
        step=step,
        last_step=None,
        cause=f"from step {step} on gradient norms are {format_number(factor)} times what they "
        "were, at the same loss and batches of the same size: gradients are added up or averaged "
        "in another way than before",
        confidence="likely",
        evidence={
            "factor": factor,
            "z": float(found.z[strongest]),
            "loss_shift": float(surprise.shift[strongest]),
        },
        next_action="look at what changed at that step: gradient_accumulation_steps, the number of "
        "devices, or how the loss is averaged",
    )
