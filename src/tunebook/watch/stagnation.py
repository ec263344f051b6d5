"""A loss that has stopped falling: as low as it gets, or well before the end."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number, format_percent
from tunebook.watch.documents import FEWEST
from tunebook.watch.run_log import RunLog

_SHARE = 0.01
_LEAST_GAIN = 0.05
_FEWEST_STEPS = 40
_BLOCKS = 8
_DECAYED = 0.2


def find_stagnation(log: RunLog) -> Verdict | None:
    """Find that the loss of the last quarter fell by less than 1 % of all it fell, at 95 %.

    Held-out losses per document have a paired test; else means of eight blocks of the training loss
    have a line, without one where there are validations. `converged` when the run is at its end and
    its learning rate has decayed to a fifth, else `stagnation`.
    """
    found = _held_out(log) if log.has("documents") else None
    if found is None and not log.has("validations"):
        found = _trained(log)
    if found is None:
        return None
    begin, end, gain, most, now, whole = found
    first = whole[0]
    total = first - whole[1]
    if total < _LEAST_GAIN * first or most >= _SHARE * total or gain <= -_SHARE * total:
        return None
    # A loss that rises for certain, or has left its lowest point, does not stand still.
    if most < 0 or now > (1 + _SHARE) * whole[1]:
        return None
    last, planned = int(log.step[-1]), log.facts.total_steps
    left = max(0, (planned or last) - last)
    rates = log.learning_rate[np.isfinite(log.learning_rate)]
    decayed = bool(len(rates) and rates[-1] <= _DECAYED * rates.max())
    converged = not left and decayed
    expected = gain / max(end - begin, 1) * left
    return Verdict(
        kind="converged" if converged else "stagnation",
        step=begin,
        last_step=end,
        cause=(
            f"from step {begin} to {end} the loss fell by {format_number(max(gain, 0.0))} and at "
            f"most {format_number(most)} nats, {format_percent(max(most, 0.0) / total)} of all it "
            "fell"
        ),
        confidence="likely",
        evidence={
            "gain": gain,
            "gain_at_most": most,
            "total_gain": total,
            "steps_left": left,
            "expected_gain_of_finishing": expected,
            "learning_rate_decayed": decayed,
        },
        next_action=(
            "more of the same brings little: another model, other rows, or a higher learning rate"
            if converged
            else f"end it here, or lower the learning rate: {left} more steps bring about "
            f"{format_number(max(expected, 0.0))} nats at this rate"
        ),
    )


_Found = tuple[int, int, float, float, float, tuple[float, float]]
"""First and last step, gain, its 95 % upper bound, the last loss, and (first, lowest) of all."""


def _held_out(log: RunLog) -> _Found | None:
    documents = log.documents
    steps, losses = np.array(documents.steps), documents.losses
    if len(documents) < FEWEST or len(steps) < 5:
        return None
    begin = int(np.searchsorted(steps, 0.75 * steps[-1], side="right")) - 1
    if begin in (0, len(steps) - 1) or steps[-1] < _FEWEST_STEPS:
        return None
    rise = documents.rise(len(steps) - 1, begin)
    most = -rise.interval()[0]
    whole = float(losses[0]), float(losses.min())
    return int(steps[begin]), int(steps[-1]), -rise.difference, most, float(losses[-1]), whole


def _trained(log: RunLog) -> _Found | None:
    losses, steps = log.loss[np.isfinite(log.loss)], log.step[np.isfinite(log.loss)]
    n = len(losses) // 4
    if n < _FEWEST_STEPS:
        return None
    from scipy import stats

    blocks = np.array([block.mean() for block in np.array_split(losses[-n:], _BLOCKS)])
    line = stats.linregress(np.arange(_BLOCKS), blocks)
    half = float(stats.t.ppf(0.95, _BLOCKS - 2)) * line.stderr
    whole = float(np.median(losses[: max(1, n // 10)])), float(np.median(losses[-n:]))
    gain, spread = -line.slope * _BLOCKS, half * _BLOCKS
    return int(steps[-n]), int(steps[-1]), float(gain), float(gain + spread), whole[1], whole
