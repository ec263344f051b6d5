"""Gradient clipping that begins, ends or changes its limit in the middle of a run (defect 9)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.run_log import RunLog

_ROUNDING = 1e-3


def find_clip_switch(log: RunLog) -> Verdict | None:
    """Find where clipped and unclipped gradients stop agreeing with one limit.

    Under one limit every clipped norm is larger than every norm that was not clipped: a step that
    breaks this was trained under another limit than the steps before it. This is arithmetic, and
    has no false alarms as long as the log is right.
    """
    norms = log.grad_norm
    finite = np.isfinite(norms) & log.applied  # what is left out is not clipped either
    clipped = log.clipped & finite
    free = ~log.clipped & finite
    broken = _breaks(norms, clipped, free)
    if broken is None:
        return None
    # The last steps that agree with each other up to the end: the new limit holds at least there.
    backwards = _breaks(norms[::-1], clipped[::-1], free[::-1])
    assert backwards is not None
    new_from = len(norms) - backwards
    place = _first_of_new(clipped, min(new_from, broken), broken)
    before, after = slice(0, place), slice(place, len(norms))
    begins = clipped[place]
    limits = [_limit(norms, clipped, free, part) for part in (before, after)]
    known = log.facts.max_grad_norm
    wanted = known if known is not None else limits[0] or limits[1]
    first = int(log.step[place])
    verb = "begins" if begins and not clipped[before].any() else "changes its limit"
    if not begins and not clipped[after].any():
        verb = "ends"
    return Verdict(
        kind="clip_switch",
        step=first,
        last_step=first,
        cause=f"gradient clipping {verb} at step {first}: norms up to "
        f"{format_number(_largest(norms, free, before))} went unclipped before it, up to "
        f"{format_number(_largest(norms, free, after))} from there on",
        confidence="certain",
        evidence={
            "grad_norm": float(norms[place]),
            "clipped": bool(clipped[place]),
            "limit_before": limits[0],
            "limit_after": limits[1],
            "clipped_before": float(log.clipped[before].mean()),
            "clipped_after": float(log.clipped[after].mean()),
        },
        next_action="train with one train.max_grad_norm from the first step to the last",
        changes=(f"train.max_grad_norm={wanted:.3g}",) if wanted else (),
    )


def _breaks(
    norms: NDArray[np.float64], clipped: NDArray[np.bool_], free: NDArray[np.bool_]
) -> int | None:
    """Give the first place whose state no limit allows together with all places before it."""
    lowest = np.minimum.accumulate(np.where(clipped, norms, np.inf))
    highest = np.maximum.accumulate(np.where(free, norms, -np.inf))
    bad = np.flatnonzero(highest > lowest * (1 + _ROUNDING))
    return int(bad[0]) if len(bad) else None


def _first_of_new(clipped: NDArray[np.bool_], first: int, broken: int) -> int:
    """Clipping that begins shows from its first clipped step, which may contradict nothing yet."""
    if clipped[broken] and not clipped[:first].any():
        return first + int(np.argmax(clipped[first : broken + 1]))
    return broken


def _largest(norms: NDArray[np.float64], free: NDArray[np.bool_], part: slice) -> float:
    return float(np.max(norms[part], where=free[part], initial=0.0))


def _limit(
    norms: NDArray[np.float64], clipped: NDArray[np.bool_], free: NDArray[np.bool_], part: slice
) -> float | None:
    """Give the limit as far as the norms tell; None where nothing was clipped."""
    if not clipped[part].any():
        return None
    lowest = float(np.min(norms[part], where=clipped[part], initial=np.inf))
    highest = _largest(norms, free, part)
    return (lowest + highest) / 2 if highest else lowest
