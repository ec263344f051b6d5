"""A loss that leaves where it was for good, and one that rises at the end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.hurt import smooth
from tunebook.watch.robust import spread
from tunebook.watch.run_log import RunLog, fill_forward

Floats = NDArray[np.float64]

_FEWEST_STEPS = 20
_LATE = 0.2
_ABOVE_START = 0.15
_TIMES = 3.0
_SPREADS = 2.0
_P = 0.001
_RESAMPLES = 2000
_MOST_POINTS = 500
_RISE = 0.02


def find_divergence(log: RunLog) -> Verdict | None:
    """Find a loss that ends above where the run began, or at three times its running median.

    Both are of running medians of 9 steps, twice the spread of batches beyond, and hold from some
    step on to the last; the canary, where there is one, must be above its lowest, too, or it is
    the data that got harder. Live, this is what ends a run by default.
    """
    if len(log) < _FEWEST_STEPS:
        return None
    level = smooth(np.where(np.isfinite(log.loss), log.loss, np.nan), 9)
    first_losses = log.loss[:9][np.isfinite(log.loss[:9])]
    if not len(first_losses) or _held_out_is_fine(log):
        return None
    begin = float(np.median(first_losses))
    least = np.fmin.accumulate(level)
    limit = np.minimum(begin + max(_ABOVE_START, 0.06 * begin), np.maximum(_TIMES * least, 0.5))
    # Twice the spread of single batches is about five standard errors of a median of nine.
    limit = np.maximum(limit, least + _ABOVE_START) + _SPREADS * spread(log.loss)
    away = level > limit
    if not away[-1]:
        return None
    inside = np.flatnonzero(~away)
    place = int(inside[-1]) + 1 if len(inside) else 0
    if len(log) - place < max(9, _FEWEST_STEPS // 2):
        return None
    first = int(log.step[place])
    good = [v.step for v in log.validations if v.step <= first and np.isfinite(v.loss)]
    best = min((v for v in log.validations if v.step in good), key=lambda v: v.loss, default=None)
    back = f"step {best.step}" if best and best.step else "its start"
    return Verdict(
        kind="divergence",
        step=first,
        last_step=int(log.step[-1]),
        cause=f"since step {first} the loss is away from where it was: "
        f"{format_number(float(level[-1]))} now, {format_number(begin)} at the start, "
        f"{format_number(float(np.nanmin(level)))} at its lowest",
        confidence="likely",
        evidence={
            "loss_now": float(level[-1]),
            "loss_at_start": begin,
            "lowest": float(np.nanmin(level)),
            "last_good_validation": best.step if best else None,
        },
        next_action=f"go back to {back} with a lower learning rate",
    )


def _held_out_is_fine(log: RunLog) -> bool:
    if not log.has_canary:
        return False
    canary = smooth(fill_forward(log.canary))
    known = canary[np.isfinite(canary)]
    if not len(known):
        return False
    least = float(known.min())
    return bool(known[-1] - least <= max(_ABOVE_START, 0.06 * least))


def find_rising_loss(log: RunLog) -> Verdict | None:
    """Find that the loss of training rises over the last fifth of the run.

    The slope is of least squares after the outer tenth is clipped; p is the share of moving-block
    bootstrap resamples of its residuals (Kuensch 1989) whose slope is as large, below 0.001; the
    rise must be 0.02 nats and 2 % of the loss.
    """
    late = log.loss[-max(int(len(log) * _LATE), 1) :]
    late = late[np.isfinite(late)]
    if len(late) < _FEWEST_STEPS:
        return None
    first, last = int(log.step[-len(late)]), int(log.step[-1])
    # Of very many steps, means of as many as make 500 points.
    each = -(-len(late) // _MOST_POINTS)
    late = late[: len(late) // each * each].reshape(-1, each).mean(axis=1)
    slope, p = _slope_and_p(late)
    rise = slope * len(late)
    if p >= _P or rise < max(_RISE, _RISE * float(np.median(late))):
        return None
    return Verdict(
        kind="rising_loss",
        step=first,
        last_step=last,
        cause=f"the loss of training rises by {format_number(rise)} nats over the last fifth of "
        f"the run, steps {first} to {last}",
        confidence="likely",
        evidence={"rise": rise, "p": p, "steps": last - first + 1},
        next_action="stop earlier, or lower the learning rate at the end",
    )


def _slope_and_p(values: Floats) -> tuple[float, float]:
    places = np.arange(len(values)) - (len(values) - 1) / 2
    weights = places / float((places**2).sum())
    # Least squares on ranks of size would do less well: a few batches are far off.
    clipped = np.clip(values, *np.quantile(values, [0.05, 0.95]))
    slope = float(weights @ clipped)
    residuals = clipped - clipped.mean() - slope * places
    block = max(int(len(values) ** (1 / 3)), 2)
    random = np.random.default_rng(0)
    starts = random.integers(0, len(values) - block + 1, (_RESAMPLES, -(-len(values) // block)))
    rows = (starts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, : len(values)]
    chance = residuals[rows] @ weights
    return slope, float((1 + (chance >= slope).sum()) / (1 + _RESAMPLES))
