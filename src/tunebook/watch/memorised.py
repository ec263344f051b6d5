"""Rows that are known by heart."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.run_log import RunLog

LAST_STEPS = 20
_NATS = 0.05
_SHARE = 0.2


def find_memorised(log: RunLog) -> Verdict | None:
    """Find that the last 20 steps have a median loss below 0.05 nats and a fifth of held-out."""
    losses = log.loss[np.isfinite(log.loss)][-LAST_STEPS:]
    held_out = [v for v in log.validations if v.step > 0 and np.isfinite(v.loss)]
    if len(losses) < LAST_STEPS or not held_out:
        return None
    trained, loss = float(np.median(losses)), held_out[-1].loss
    if trained >= _NATS or trained >= _SHARE * loss:
        return None
    # The first step from which the loss stayed so low.
    low = np.where(np.isfinite(log.loss), log.loss, 0.0) <= max(_NATS, float(losses.max()))
    step = int(log.step[0 if low.all() else len(low) - int(np.argmin(low[::-1]))])
    return Verdict(
        kind="memorised",
        step=step,
        last_step=int(log.step[-1]),
        cause=(
            f"the training loss is {format_number(trained)} nats per token and the held-out loss "
            f"{format_number(loss)}: the rows are known by heart"
        ),
        confidence="likely",
        evidence={
            "training_loss": trained,
            "held_out_loss": loss,
            "steps": LAST_STEPS,
            "epochs": float(log.epoch[-1]),
        },
        next_action="train fewer epochs, or on more rows",
    )
