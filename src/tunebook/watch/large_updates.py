"""Updates too large for what a model knows to survive them, whatever the loss shows yet."""

from __future__ import annotations

import math

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_percent
from tunebook.watch.hurt import smooth
from tunebook.watch.instability import lower_rate, near_peak
from tunebook.watch.run_log import RunLog

_LARGE = 0.007
_LARGE_OF_ADAPTER = 0.1
_WIDTH = 10
_KNOWS_NOTHING = 0.95  # of the log of the vocabulary's size


def find_large_updates(log: RunLog) -> Verdict | None:
    """Find ten steps in a row whose updates each move the weights by more than 0.7 % of their size.

    0.1 % is usual. Of an adapter, half of whose weights begin at 0, the limit is 10 %. It is the
    running median of 10 steps, and holds for models that knew something when they began: their
    first loss is below 0.95 of a guess's.
    """
    size, first = log.facts.vocabulary_size, log.loss[:1]
    if size and len(first) and first[0] > _KNOWS_NOTHING * math.log(size):
        return None
    limit = _LARGE if log.facts.method in (None, "full") else _LARGE_OF_ADAPTER
    level = smooth(log.update_ratio, _WIDTH)
    hit = np.flatnonzero(level[_WIDTH - 1 :] > limit) + _WIDTH - 1
    if not len(hit):
        return None
    crossing, last = int(hit[0]), int(hit[-1])
    onset = crossing - _WIDTH + 1
    onset += int(np.argmax(log.update_ratio[onset : crossing + 1] > limit))
    rate = float(log.learning_rate[onset])
    largest = float(np.nanmax(level))
    wanted = lower_rate(log, onset)
    peak = near_peak(log, onset, crossing)
    return Verdict(
        kind="peak_lr" if peak else "lr_too_high",
        step=int(log.step[onset]),
        last_step=int(log.step[last]),
        cause=f"from step {int(log.step[onset])} on, at a learning rate of {rate:.3g}, an update "
        f"moves the weights by up to {format_percent(largest)} of their size, where about 0.1 % is "
        "usual: what the model knew does not survive that",
        confidence="likely",
        evidence={
            "update_ratio": largest,
            "limit": limit,
            "learning_rate_at_onset": rate,
            "steps_above": len(hit),
        },
        next_action=f"train with a peak learning rate of {wanted:.2g}",
        changes=(f"train.learning_rate={wanted:.2g}",),
    )
