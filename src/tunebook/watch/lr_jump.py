"""A learning rate that rises where no schedule meant it to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.robust import windows_before
from tunebook.watch.run_log import RunLog

_TIMES = 2.0
_WITHIN_STEPS = 64
_LEVEL = 1.02  # what still counts as the rate before a rise
_IN_WARMUP_TIMES = 4.0


def find_lr_jump(log: RunLog) -> Verdict | None:
    """Find the first step from which the learning rate doubles within 64 steps.

    Not looked at: the warm-up, as long as it is a straight line; the warm-ups after the merges of
    method relora; and rates that rise again and again to no more than before, as in restarts.
    """
    rates = np.where(log.learning_rate > 0, log.learning_rate, np.nan)
    end = log.warmup_end
    in_warmup = _kink_of(rates[: end + 1])
    if in_warmup is not None:
        return _verdict(log, in_warmup, in_warmup, rates[in_warmup - 1])
    after = rates.copy()
    after[:end] = np.nan
    for merged in _after_merges(log):
        after[merged] = np.nan
    lowest = np.fmin.reduce(windows_before(after, _WITHIN_STEPS), axis=1)
    high = np.flatnonzero(after >= _TIMES * lowest)
    if not len(high) or _is_cyclic(after, high):
        return None
    crossing = int(high[0])
    low = float(lowest[crossing])
    # The rise begins behind the last step that still had the low rate.
    level = np.flatnonzero(after[:crossing] <= _LEVEL * low)
    onset = int(level[-1]) + 1 if len(level) else crossing
    return _verdict(log, onset, int(high[-1]), low)


def _kink_of(rates: NDArray[np.float64]) -> int | None:
    """Give the place where the straight line of a warm-up breaks off upwards."""
    rises = np.diff(rates)
    steepest = np.maximum.accumulate(rises)[:-1] if len(rises) else rises
    steep = rises[1:] > _IN_WARMUP_TIMES * steepest
    kinks = np.flatnonzero(steep & (rates[2:] > _TIMES * rates[1:-1]))
    kinks = kinks[kinks >= 2]
    return int(kinks[0]) + 2 if len(kinks) else None


def _after_merges(log: RunLog) -> list[slice]:
    every = log.facts.merge_every
    if not every:
        return []
    marks = range(every, int(log.step[-1]) + 1, every)
    places = np.searchsorted(log.step, np.array(marks) + 1)
    return [slice(int(place), int(place) + every // 2) for place in places]


def _is_cyclic(rates: NDArray[np.float64], high: NDArray[np.int64]) -> bool:
    rises = 1 + int((np.diff(high) > _WITHIN_STEPS).sum())
    first = np.nanmax(rates[: high[0]])
    return rises > 1 and bool(np.nanmax(rates[high[0] :]) <= _LEVEL * first)


def _verdict(log: RunLog, onset: int, last: int, low: float) -> Verdict:
    peak = float(np.nanmax(log.learning_rate[onset : last + 1]))
    first, step = int(log.step[onset]), int(log.step[last])
    # The rate of that moment is no peak: on a schedule only the recipe knows what was meant.
    meant = log.facts.learning_rate
    hurt = _canary_rise(log, onset, last)
    resumed = [s for s in log.facts.resumed_after if 0 <= first - s <= 2]
    where = f", right after it was resumed at step {resumed[0]}" if resumed else ""
    effect = "" if hurt is None else f"; the canary's loss rose by {format_number(hurt)} nats"
    return Verdict(
        kind="lr_jump",
        step=first,
        last_step=step,
        cause=f"the learning rate rises from {low:.3g} to {peak:.3g} from step {first} on{where}"
        f"{effect if hurt is not None and hurt > 0 else ''}",
        confidence="certain",
        evidence={
            "before": low,
            "highest": peak,
            "times": peak / low,
            "canary_rise": hurt,
            "resumed_after": resumed[0] if resumed else None,
        },
        next_action="train on from the checkpoint before it with the learning rate there was",
        changes=(f"train.learning_rate={meant:.3g}",) if meant else (),
    )


def _canary_rise(log: RunLog, onset: int, last: int) -> float | None:
    before, after = log.canary[max(onset - 8, 0) : onset], log.canary[onset : last + 17]
    if not (np.isfinite(before).any() and np.isfinite(after).any()):
        return None
    return float(np.nanmax(after) - np.nanmedian(before))
