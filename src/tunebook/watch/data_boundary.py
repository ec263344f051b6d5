"""A loss that changes its level because other data came."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunebook.records import Verdict
from tunebook.units import format_number, format_percent
from tunebook.watch.robust import level_shifts
from tunebook.watch.run_log import RunLog

_WIDTH = 6
_MOVED = 0.4  # of all tokens: half the sum of changes of the sources' shares
_Z = 3.0
_FLOOR = 0.02


def find_data_boundary(log: RunLog) -> Verdict | None:
    """Find where the mixture of sources changes, and with it the loss at the same weights.

    At least 0.4 of the tokens must come from other sources than in the 6 steps before, which the
    source tags of the batches say; the loss must move by 3 standard errors. That the loss falls
    where an epoch ends is no fault and not looked for.
    """
    names = sorted({name for s in log.steps for name in s.sources})
    if len(names) < 2:
        return None
    shares = _shares(log, names)
    shifts = np.stack([level_shifts(column, _WIDTH, 0.01).shift for column in shares.T], axis=1)
    moved = np.abs(shifts).sum(axis=1) / 2
    loss = level_shifts(log.surprise, _WIDTH, _FLOOR)
    hit = np.flatnonzero((moved > _MOVED) & (np.abs(loss.z) > _Z))
    if not len(hit):
        return None
    at_once = np.abs(np.diff(shares, axis=0, prepend=shares[:1])).sum(axis=1)
    start = max(int(hit[0]) - _WIDTH, 0)
    place = start + int(np.nanargmax(at_once[start : int(hit[0]) + 2 * _WIDTH]))
    gained, lost = int(np.argmax(shifts[place])), int(np.argmin(shifts[place]))
    step = int(log.step[place])
    return Verdict(
        kind="data_boundary",
        step=step,
        last_step=step,
        cause=f"at step {step} {format_percent(moved[place])} of the tokens go over from source "
        f"{names[lost]} to {names[gained]}, and the loss changes by "
        f"{format_number(float(loss.shift[place]))} nats at the same weights",
        confidence="certain",
        evidence={
            "from": names[lost],
            "to": names[gained],
            "share_moved": float(moved[place]),
            "loss_change": float(loss.shift[place]),
            "z": float(loss.z[place]),
        },
        next_action="mix the sources over the whole run, which tunebook does unless they are "
        "trained one after the other",
    )


def _shares(log: RunLog, names: list[str]) -> NDArray[np.float64]:
    tokens = np.array([[s.sources.get(name, 0) for name in names] for s in log.steps], dtype=float)
    totals = tokens.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = tokens / np.where(totals > 0, totals, np.nan)
    return shares
