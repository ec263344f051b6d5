"""Gradient norms that grow before the loss does."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.robust import robust_z, windows_before
from tunebook.watch.run_log import RunLog

_Z = 10.0
_OF_STEPS = 8
_TIMES = 3
_FLOOR = 0.05  # of log gradient norms


def find_grad_norm_warning(log: RunLog) -> Verdict | None:
    """Find 3 of 8 steps whose log gradient norm is above 10 robust SDs of the 48 before."""
    z = robust_z(np.log(np.where(log.grad_norm > 0, log.grad_norm, np.nan)), _FLOOR)
    counts = windows_before(np.append(z > _Z, False).astype(float), _OF_STEPS)[1:]
    hit = np.flatnonzero(np.nansum(counts, axis=1) >= _TIMES)
    if not len(hit):
        return None
    last = int(hit[0])
    place = int(np.flatnonzero(z[: last + 1] > _Z)[-_TIMES])
    step = int(log.step[place])
    usual = float(np.nanmedian(log.grad_norm[max(place - 48, 0) : place]))
    norm = float(np.nanmax(log.grad_norm[place : last + 1]))
    return Verdict(
        kind="grad_norm_warning",
        step=step,
        last_step=int(log.step[last]),
        cause=f"gradient norms grow from {format_number(usual)} to {format_number(norm)} from step "
        f"{step} on",
        confidence="likely",
        evidence={"usual": usual, "grad_norm": norm, "z": float(z[place])},
        next_action="watch the loss; lower the learning rate if it follows",
    )
