"""Padding that is trained on, and answers that change their length at once."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number, format_percent
from tunebook.watch.robust import WINDOW, change_point, levels_before, windows_before
from tunebook.watch.run_log import RunLog

_RUN_STEPS = 6
_RUN_EXAMPLES = 24
_SPAN = 16
_FACTOR = 1.25
_Z = 8.0
_FLOOR = 0.03  # of log target tokens per example
_EVIDENCE_STEPS = 20


def find_padding_or_length(log: RunLog) -> Verdict | None:
    """Find targets on padding, which no step should have, or else a jump of the answers' lengths.

    Of lengths, the mean log target tokens per example over 6 steps must be 8 standard errors and a
    factor of 1.25 off the median of the 48 steps before, with the sources as they were.
    """
    return _padding(log) or _lengths(log)


def _padding(log: RunLog) -> Verdict | None:
    padded = [s for s in log.steps if s.padding_target_tokens]
    if not padded:
        return None
    first, last = padded[0], padded[-1]
    n_padding = sum((s.padding_target_tokens or 0) for s in padded)
    share = n_padding / max(sum(s.target_tokens or 0 for s in padded), 1)
    ids = [e.id for s in padded[:1] for e in s.examples]
    return Verdict(
        kind="padding_or_length",
        step=first.step,
        last_step=last.step,
        cause=f"from step {first.step} on {format_percent(share)} of the target tokens are "
        "padding, which the model is trained to write",
        confidence="certain",
        evidence={
            "padding_target_tokens": n_padding,
            "share": share,
            "steps": len(padded),
            "examples": ids[:_EVIDENCE_STEPS],
        },
        next_action="take the padding out of the rows, or out of their targets",
    )


def _lengths(log: RunLog) -> Verdict | None:
    counts = np.diff(log.examples.first)
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = np.log(log.target_tokens / counts)
    lengths = np.where(np.isfinite(lengths), lengths, np.nan)
    # Of small batches more steps make one comparison.
    width = max(_RUN_STEPS, -(-_RUN_EXAMPLES // max(int(np.median(counts)), 1)))
    if len(lengths) < 2 * width:
        return None
    recent = windows_before(np.append(lengths, np.nan), width)[1:]
    # What the recent steps are compared with ends where they begin.
    earlier = np.concatenate((np.full(width - 1, np.nan), lengths))[: len(lengths)]
    center, scale, count = levels_before(earlier, WINDOW, width)
    off = recent.mean(axis=1) - center
    z = off / np.maximum(scale, _FLOOR) * np.sqrt(width)
    enough = count >= WINDOW // 3
    hit = np.flatnonzero(enough & (np.abs(z) > _Z) & (np.abs(off) > np.log(_FACTOR)))
    if not len(hit):
        return None
    place = int(hit[0])
    first = int(log.step[change_point(lengths, place - width + 1, span=_SPAN)])
    gaps = np.flatnonzero(np.diff(hit) > width)
    last = int(log.step[int(hit[gaps[0]]) if len(gaps) else int(hit[-1])])
    factor = float(np.exp(off[place]))
    was, now = float(np.exp(center[place])), float(np.exp(center[place] + off[place]))
    return Verdict(
        kind="padding_or_length",
        step=first,
        last_step=last,
        cause=f"from step {first} on an example has {format_number(now)} target tokens where it "
        f"had {format_number(was)}: answers are {'cut' if factor < 1 else 'longer'}",
        confidence="likely",
        evidence={"times": factor, "z": float(z[place]), "before": was, "after": now},
        next_action="look at the rows of these steps with `tunebook data show`",
    )
