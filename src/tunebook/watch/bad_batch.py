"""Batches far harder than their neighbours, which the weights recover from."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.run_log import RunLog
from tunebook.watch.surprise import tail_chance

_Z = 6.0
_Z_WITH_EXAMPLES = 4.0
_FEWEST_EXAMPLES = 4
_MOST_STEPS = 4
_NORMAL_Z = 3.0
_P = 0.01
_RECOVERS_WITHIN = 10
_SHOWN_IDS = 40


def find_bad_batch(log: RunLog) -> Verdict | None:
    """Find up to 4 steps in a row whose surprise is above 6 robust SDs, and back at once.

    Where losses of examples are known it is 4 of the batch, and 6 of its examples together, each
    against those of its source and like length: batches of several sources vary by their mixture.
    With the canary the loss is compared at the same weights, so that it is the data which is
    unusual; without it a spike of one step that is gone at the next is called `spike_isolated`,
    for the log cannot tell data from weights.
    """
    z = log.batch_z
    hit = z > _Z
    if len(log.examples):
        if np.median(np.diff(log.examples.first)) < _FEWEST_EXAMPLES:
            return None  # such batches differ as examples do, which bad_example looks at
        hit = (z > _Z_WITH_EXAMPLES) & (log.batch_example_z > _Z)
    summed = log.batch_example_z
    for place in np.flatnonzero(hit):
        stop = int(place) + 1
        while stop < len(z) and z[stop] > _NORMAL_Z:
            stop += 1
        behind = z[stop : stop + 4]
        began = place == 0 or z[place - 1] < _NORMAL_Z
        own = np.arange(len(z)) == place
        if len(log.examples) and _but_the_worst(log, int(place)) < _Z_WITH_EXAMPLES:
            continue  # one example of it is bad, which bad_example says
        alone = not len(log.examples) or tail_chance(summed, summed[place], own) < _P
        if alone and began and stop - place <= _MOST_STEPS and (behind > _NORMAL_Z).sum() <= 1:
            return _verdict(log, int(place), stop - 1)
    return None


def _but_the_worst(log: RunLog, place: int) -> float:
    """Add up the examples' surprise of a step without that of the worst."""
    first = log.examples.first
    z = np.sort(log.example_z[first[place] : first[place + 1]])[:-1]
    return float(z.sum() / np.sqrt(max(len(z), 1)))


def _verdict(log: RunLog, place: int, last: int) -> Verdict:
    first, step = int(log.step[place]), int(log.step[last])
    usual = float(np.nanmedian(log.loss[max(place - 16, 0) : place]))
    where = f"step {first}" if first == step else f"steps {first} to {step}"
    known = log.has_canary
    evidence: dict[str, object] = {
        "loss": float(log.loss[place]),
        "usual": usual,
        "z": float(log.batch_z[place]),
    }
    ids = [e.id for s in log.steps[place : last + 1] for e in s.examples]
    if ids:
        evidence |= {"sources": dict(log.steps[place].sources), "examples": ids[:_SHOWN_IDS]}
    if not known:
        return Verdict(
            kind="spike_isolated",
            step=first,
            last_step=step,
            cause=f"the loss spikes to {format_number(float(log.loss[place]))} at {where} from "
            f"{format_number(usual)} and comes back: unusual data, or updates that later ones "
            "undid; the log has no canary that could tell",
            confidence="undecided",
            evidence=evidence,
            next_action="look at the rows of that step",
        )
    return Verdict(
        kind="bad_batch",
        step=first,
        last_step=step,
        cause=f"the batch of {where} has a loss of {format_number(float(log.loss[place]))} where "
        f"its neighbours have {format_number(usual)}, at the same weights",
        confidence="likely",
        evidence={**evidence, "canary_back_after": _recovers_after(log, place)},
        next_action="look at the rows of that step, and at their neighbours in the same file",
    )


def _recovers_after(log: RunLog, place: int) -> int | None:
    """Give after how many steps the canary is back where it was; None if not within ten."""
    before = log.canary_before[place]
    after = log.canary[place : place + _RECOVERS_WITHIN]
    back = np.flatnonzero(after <= before + max(0.05, 0.02 * before))
    return int(back[0]) if len(back) else None
