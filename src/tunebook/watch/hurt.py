"""When updates made the weights worse: held-out text above what it was, and training no better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.watch.robust import row_median, spread, windows_before
from tunebook.watch.run_log import SCALE_FLOOR, RunLog, fill_forward

Floats = NDArray[np.float64]

_NATS = 0.15
_SHARE = 0.06
_LASTS = 5
_LARGE_UPDATE = 0.01
_SMOOTH = 5
_ONSET = 0.25


@dataclass(frozen=True, slots=True)
class Hurt:
    """A stretch of steps, by place: from the onset, past the level, to the last above it.

    `height` is the highest loss above `level`, the least before it, in nats; `recovered` is
    whether it came back below half of that height before the end.
    """

    onset: int
    crossing: int
    last: int
    level: float
    height: float
    recovered: bool


def find_hurt(log: RunLog) -> Hurt | None:
    """Find the first time the weights are hurt.

    The canary (without one, the running median of 5 losses) must be above its running minimum by
    the larger of 0.15 nats and 6 % for 5 steps, while the loss of training is above what it was
    at that minimum by a third of this, too. Where an update moves the weights by more than 1 % of
    their size, half the rise is enough, and training need only be no better than it was. A rule
    against the minimum, since an unstable run makes every scale of noise wide.
    """
    series, start = _series(log)
    if len(series) < _LASTS:
        return None
    least = np.fmin.accumulate(np.concatenate(([start], series)))[:-1]
    limit = np.maximum(_NATS, _SHARE * least)
    large = log.update_ratio > _LARGE_UPDATE
    if not log.has_canary:
        limit = np.maximum(2 * limit, 6 * max(spread(log.loss), SCALE_FLOOR))
    else:
        limit = np.where(large, limit / 2, limit)
    above = (series - least > limit) & _hurts_training(log, series, limit, large)
    streak = windows_before(np.append(above, False).astype(float), _LASTS)[1:].min(axis=1) == 1
    crossed = np.flatnonzero(streak)
    if not len(crossed):
        return None
    crossing = int(crossed[0]) - _LASTS + 1
    level = float(least[crossing])
    low = np.flatnonzero(series[:crossing] - level <= _ONSET * limit[crossing])
    onset = int(low[-1]) + 1 if len(low) else 0
    back = np.flatnonzero(series[crossing:] - level < limit[crossing] / 2)
    last = crossing + int(back[0]) - 1 if len(back) else len(series) - 1
    height = float(np.nanmax(series[crossing : last + 1])) - level
    return Hurt(onset, crossing, last, level, height, recovered=bool(len(back)))


def _series(log: RunLog) -> tuple[Floats, float]:
    """Give the loss that tells of the weights at each place, and what it was before step 1."""
    if not log.has_canary:
        return smooth(log.loss), np.inf
    return fill_forward(log.canary), _canary_of_base(log)


def _canary_of_base(log: RunLog) -> float:
    """Give what the canary was before the first update: all held-out rows were scored then.

    The few of the canary are as much harder than all as they are at the next validation.
    """
    scored = [v for v in log.validations if np.isfinite(v.loss)]
    if len(scored) < 2 or scored[0].step != 0:
        return np.inf
    place = int(np.searchsorted(log.step, scored[1].step))
    if place >= len(log) or not np.isfinite(log.canary[place]):
        return np.inf
    return float(scored[0].loss + log.canary[place] - scored[1].loss)


def smooth(values: Floats, width: int = _SMOOTH) -> Floats:
    """Give the running median of the last `width` values, with a short start."""
    return row_median(windows_before(np.append(values, np.nan), width)[1:])


def _hurts_training(
    log: RunLog, series: Floats, limit: Floats, large: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Tell where training, too, is above where it was when held-out text was at its best.

    Where it is below, rows are learnt by heart while the rest gets worse, which is overfitting;
    where it is the same, the few examples of the canary vary.
    """
    level = smooth(log.loss)
    known = np.where(np.isfinite(series), series, np.inf)
    is_least = known <= np.minimum.accumulate(known)
    places = np.arange(len(known))
    at_best = np.maximum.accumulate(np.where(is_least, places, 0))
    # A running median tells of the steps behind it: those of the minimum it knows a little later.
    later = level[np.minimum(at_best + _SMOOTH - 1, places)]
    before = np.minimum(level[at_best], later)
    hurts: NDArray[np.bool_] = level > before + np.where(large, -limit / 4, limit / 3)
    return hurts
