"""Targets that are wrong from a step on."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.robust import first_of_strongest, level_shifts
from tunebook.watch.run_log import RunLog, fill_forward

_WIDTH = 10
_Z = 6.0
_NATS = 0.1
_STAYS = 0.5
_FAR = 6.0


def find_corrupted_targets(log: RunLog) -> Verdict | None:
    """Find the step from which batches are much harder than held-out text at the same weights.

    The level of surprise must rise by 6 standard errors over 10 steps on either side, that of the
    batch, by 0.1 nats, or that of its examples, each against those of like length; and stay up by
    half of it for 14 steps. What the sources, lengths or padding explain is left to those.
    """
    of_batch = level_shifts(log.surprise, _WIDTH, log.surprise_floor)
    of_examples = level_shifts(np.clip(log.batch_example_z, -_FAR, _FAR), _WIDTH, 1.0)
    hit = (of_batch.z > _Z) & (of_batch.shift > _NATS) & (of_batch.edge > _STAYS)
    hit |= (of_examples.z > _Z) & (of_batch.shift > 0)
    # Where held-out text gets easier at once, rows that differ from it do not follow.
    easier = -level_shifts(fill_forward(log.canary), _WIDTH, log.surprise_floor).shift
    hit &= ~(easier > _STAYS * of_batch.shift)
    places = first_of_strongest(of_examples if len(log.examples) else of_batch, hit, log.surprise)
    if places is None:
        return None
    strongest, place = places
    level = float(np.nanmedian(log.surprise[max(place - 3 * _WIDTH, 0) : place]))
    shift = float(of_batch.shift[strongest])
    # Not longer: as the weights are hurt the canary rises, and surprise falls.
    later = log.surprise[place : place + _WIDTH + 4]
    if not float(np.nanmedian(later)) - level > _STAYS * shift:
        return None
    step = int(log.step[place])
    canary = float(np.nanmedian(log.canary[-_WIDTH:]) - log.canary_before[place])
    ids = [e.id for e in log.steps[place].examples]
    return Verdict(
        kind="corrupted_targets",
        step=step,
        last_step=None,
        cause=f"from step {step} on batches are {format_number(shift)} nats harder than held-out "
        "text at the same weights, from the same sources: their targets do not belong to them",
        confidence="likely",
        evidence={
            "surprise_before": level,
            "surprise_after": level + shift,
            "z": float(max(of_batch.z[strongest], of_examples.z[strongest])),
            "canary_since": canary,
            "examples": ids,
        },
        next_action="look at the rows from that step on, and at what made them",
    )
