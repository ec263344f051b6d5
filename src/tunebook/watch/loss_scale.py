"""Training and validation losses that are not of the same thing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.run_log import RunLog

_MOST = 1.5
_LEAST = 1.25
_FEWEST_VALIDATIONS = 2
_MOST_OF_SEVERAL = 2.0
_WIDTH = 8
_FEWEST_STEPS = 3


def find_loss_scale_mismatch(log: RunLog) -> Verdict | None:
    """Find that held-out loss / training loss at the same weights is outside of 2/3 to 1.5.

    Of several sources, outside of 1/2 to 2.

    Only validations of the first epoch count: until then every training row is as new to the
    weights as a held-out one, so overfitting cannot set the two apart; and a change in the
    course of the run is no mismatch, so each of them must be outside of 4/5 to 1.25. The training
    loss at a validation is the median of the steps around it, so one that falls does no harm.
    """
    end = _first_epoch(log)
    known = [v for v in log.validations if np.isfinite(v.loss) and v.step <= end]
    pairs = [(v.step, v.loss, _training_loss(log, v.step, end)) for v in known]
    found = np.array([p for p in pairs if p[2] > 0], dtype=np.float64).reshape(-1, 3)
    if len(found) < _FEWEST_VALIDATIONS:
        return None
    ratios = found[:, 1] / found[:, 2]
    typical = float(np.median(ratios))
    apart = ratios if typical > 1 else 1 / ratios
    # Sources with weights are mixed in another way than the rows held out of them.
    most = _MOST if log.n_sources < 2 else _MOST_OF_SEVERAL
    if np.median(apart) < most or apart.min() < _LEAST:
        return None
    return _verdict(log, found, ratios, typical)


def _first_epoch(log: RunLog) -> float:
    if log.facts.steps_per_epoch:
        return log.facts.steps_per_epoch
    if not np.isfinite(log.epoch).any():
        return float(log.step[-1]) if len(log) else 0.0
    return float(np.nanmax(log.step[log.epoch <= 1], initial=0))


def _training_loss(log: RunLog, step: int, end: float) -> float:
    at = int(np.searchsorted(log.step, step, side="right"))
    # The next step is at the same weights; as many after as before, and none of a later epoch.
    last = int(np.searchsorted(log.step, end, side="right"))
    width = min(_WIDTH, at, last - at) if step else _FEWEST_STEPS
    losses = log.loss[max(0, at - max(width, 1)) : min(at + max(width, 1), last)]
    losses = losses[np.isfinite(losses)]
    return float(np.median(losses)) if len(losses) else float("nan")


def _verdict(
    log: RunLog,
    found: NDArray[np.float64],
    ratios: NDArray[np.float64],
    typical: float,
) -> Verdict:
    step, held_out, trained = found[0]
    return Verdict(
        kind="loss_scale_mismatch",
        step=int(step),
        last_step=int(log.step[-1]),
        cause=(
            f"at step {step:.0f} the held-out loss is {format_number(float(held_out))} and the "
            f"training loss {format_number(float(trained))} with the same weights, and neither had "
            "been trained on"
        ),
        confidence="likely",
        evidence={
            "ratio": typical,
            "held_out_loss": float(held_out),
            "training_loss": float(trained),
            "validations": len(found),
            "ratios": [float(r) for r in ratios[:10]],
        },
        next_action=(
            "lay held-out rows out as those that are trained: the same template, train_on and "
            "target tokens"
        ),
    )
