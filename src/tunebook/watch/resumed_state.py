"""A run that was resumed with an optimizer that knows nothing of the steps before."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.robust import spread
from tunebook.watch.run_log import RunLog

_BEFORE_STEPS = 16
_FEWEST_STEPS = 6
_FACTOR = 1.3
_DEVIATIONS = 6.0


def find_resumed_state(log: RunLog) -> Verdict | None:
    """Find a resume whose first update is of another size than those before it.

    Compared is |update| / |weights| per learning rate, which an optimizer with its state changes
    slowly: AdamW without its averages moves every weight by the whole learning rate. It counts from
    a factor of 1.3 and 6 robust SDs on.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.log(log.update_ratio / log.learning_rate)
    size = np.where(np.isfinite(size), size, np.nan)
    for resumed in log.facts.resumed_after:
        place = int(np.searchsorted(log.step, resumed, side="right"))
        before = size[max(place - _BEFORE_STEPS, 0) : place]
        before = before[np.isfinite(before)]
        if place >= len(log) or len(before) < _FEWEST_STEPS or not np.isfinite(size[place]):
            continue
        # Early in a run the size falls from step to step: what counts is the break.
        scale = spread(before)
        jump = float(size[place]) - float(np.median(before[-3:]))
        if abs(jump) > max(np.log(_FACTOR), _DEVIATIONS * scale):
            return _verdict(log, place, resumed, float(np.exp(jump)))
    return None


def _verdict(log: RunLog, place: int, resumed: int, factor: float) -> Verdict:
    step = int(log.step[place])
    canary = log.canary[place] - log.canary[place - 1]
    return Verdict(
        kind="resumed_state",
        step=step,
        last_step=step,
        cause=f"the run was resumed after step {resumed}, and its first update is "
        f"{format_number(factor)} times as large per learning rate as those before: the state of "
        "the optimizer was not put back",
        confidence="certain" if factor > 2 or factor < 0.5 else "likely",
        evidence={
            "resumed_after": resumed,
            "times": factor,
            "update_ratio": float(log.update_ratio[place]),
            "canary_change": float(canary) if np.isfinite(canary) else None,
        },
        next_action=f"go on from the checkpoint of step {resumed} with its optimizer state, or "
        "warm up anew after a resume without it",
    )
