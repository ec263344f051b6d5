"""Held-out loss that rises while the training loss falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunebook.records import Confidence, Verdict
from tunebook.units import format_number, format_percent
from tunebook.watch.documents import ENOUGH, FEWEST, Documents, Rise
from tunebook.watch.run_log import RunLog

FALSE_ALARMS = 0.01
"""Of runs whose held-out loss never rises, about so many are called overfitting: in simulation
0.7 % with 10 validations and 1.2 % with 40, before a rise must be over 1 %, too."""
_P = FALSE_ALARMS / 2
_LEAST_RISE = 0.01
_LEVEL = 0.005
_COARSE_IN_A_ROW = 3
_FEWEST_STEPS, _MOST_STEPS = 3, 50


@dataclass(frozen=True, slots=True)
class _Onset:
    """Places among the validations: the best one, and the first one found to be worse."""

    best: int
    found: int
    confirmed: bool


def find_overfitting(log: RunLog) -> Verdict | None:
    """Find that the held-out loss left its lowest point while the training loss still fell.

    With losses per document each validation is held against the best before it in a one-sided
    paired test, clustered by document, at p < 0.005 / k at the k-th. The rise must be over
    1 %, and the next validation must find it, too, no lower; until then the verdict is amber. In
    the first epoch, while all rows are new to the weights, a third one must. Without documents
    (imported curves) three in a row must be over 1 % above the best.
    """
    documents = log.documents
    if len(documents) >= FEWEST and len(documents.steps) > 1:
        return _tested(log, documents)
    known = [v for v in log.validations if np.isfinite(v.loss)]
    steps, losses = [v.step for v in known], np.array([v.loss for v in known])
    over = [k > 0 and losses[k] > (1 + _LEAST_RISE) * losses[:k].min() for k in range(len(losses))]
    onset = _first(log, steps, losses, over, _COARSE_IN_A_ROW)
    if onset is None or not onset.confirmed:
        return None
    evidence = {
        "coarse": f"{_COARSE_IN_A_ROW} validations in a row over 1 % above the best; there are no "
        "losses per document to test with",
    }
    return _verdict(log, steps, losses, onset, evidence)


def overfitting_untold(log: RunLog) -> str | None:
    """Say why finding no overfitting means nothing: a rise that so few documents do not confirm."""
    n, losses = len(log.documents), [v.loss for v in log.validations if np.isfinite(v.loss)]
    if not losses or not 0 < n < ENOUGH or losses[-1] <= (1 + _LEAST_RISE) * min(losses):
        return None
    if find_overfitting(log) is not None:
        return None
    rise = format_percent(losses[-1] / min(losses) - 1)
    return (
        f"the held-out loss ended {rise} above its lowest, which {n} documents cannot tell from "
        f"chance ({ENOUGH} are wanted)"
    )


def _tested(log: RunLog, documents: Documents) -> Verdict | None:
    losses, steps = documents.losses, documents.steps
    over, rises = [False], dict[int, Rise]()
    for k in range(1, len(losses)):
        best = int(losses[:k].argmin())
        is_over = bool(losses[k] > (1 + _LEAST_RISE) * losses[best])
        if is_over:
            rises[k] = documents.rise(k, best)
            # A log that grows keeps the documents of some validations only, and tested them all.
            tested = sum(v.step < steps[k] for v in log.validations)
            is_over = rises[k].p < _P / tested
        over.append(is_over)
    onset = _first(log, steps, losses, over, 2)
    if onset is None:
        return None
    rise = rises[onset.found]
    evidence: dict[str, Any] = {
        "rise": rise.difference,
        "rise_interval": rise.interval(),
        "p": rise.p,
        "documents": len(documents),
        "false_alarms_per_run": FALSE_ALARMS,
        "confirmed": onset.confirmed,
        "got_worse": documents.most_risen(onset.found, onset.best),
    }
    if len(documents) < ENOUGH:
        evidence["power"] = f"low: {len(documents)} documents, and {ENOUGH} are wanted"
    return _verdict(log, steps, losses, onset, evidence)


def _first(
    log: RunLog, steps: list[int], losses: NDArray[np.float64], over: list[bool], in_a_row: int
) -> _Onset | None:
    """Find the first validation from which so many in a row are over the best before them."""
    for k in range(1, len(over)):
        needed = max(in_a_row, 3 if _in_first_epoch(log, steps[k]) else 0)
        run = over[k : k + needed]
        since = losses[k - 1 : k + needed]
        rising = bool((np.diff(since) >= -_LEVEL * losses[k]).all()) and since[-1] > since[0]
        best = int(losses[:k].argmin())
        if all(run) and rising and _training_fell(log, steps[best], steps[k + len(run) - 1]):
            return _Onset(best, k, len(run) == needed)
    return None


def _in_first_epoch(log: RunLog, step: int) -> bool:
    if log.facts.steps_per_epoch:
        return step <= log.facts.steps_per_epoch
    return bool((log.epoch[log.step <= step] <= 1).all()) if log.has("epoch") else False


def _training_fell(log: RunLog, best: int, now: int) -> bool:
    """Tell whether the training loss is lower now than it was at the best validation.

    Where it rose as well, the weights were hurt: that is no overfitting.
    """
    before, after = _around(log, best, now)
    return bool(len(before) and len(after) and np.median(after) < np.median(before))


def _around(log: RunLog, best: int, now: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    at_best, at_now = np.searchsorted(log.step, [best, now], side="right").tolist()
    width = int(np.clip(at_now - at_best, _FEWEST_STEPS, _MOST_STEPS))
    # From the base on there are no steps before the best: the first ones stand for them.
    first = log.loss[max(0, at_best - width) : max(at_best, _FEWEST_STEPS)]
    last = log.loss[max(0, at_now - width) : at_now]
    return first[np.isfinite(first)], last[np.isfinite(last)]


def _verdict(
    log: RunLog,
    steps: list[int],
    losses: NDArray[np.float64],
    onset: _Onset,
    evidence: dict[str, Any],
) -> Verdict:
    best, found = onset.best, onset.found
    after = steps[best + 1]
    before, last = _around(log, steps[best], steps[-1])
    rose, ended = (float(losses[k] / losses[best] - 1) for k in (found, -1))
    at_the_end = (
        f", {format_percent(ended)} at step {steps[-1]}" if steps[-1] > steps[found] else ""
    )
    confidence: Confidence = "likely" if onset.confirmed else "amber"
    weights = f"best of step {steps[best]}" if steps[best] else "the base"
    return Verdict(
        kind="overfitting",
        step=steps[best],
        last_step=steps[-1],
        cause=(
            f"the held-out loss was lowest at step {steps[best]} ({format_number(losses[best])}) "
            f"and is {format_percent(rose)} higher at step {steps[found]}{at_the_end}, while the "
            f"training loss fell from {format_number(float(np.median(before)))} to "
            f"{format_number(float(np.median(last)))}"
        ),
        confidence=confidence,
        evidence={
            "onset": steps[best],
            "onset_between": (steps[best - 1] if best else steps[best], after),
            "best_step": steps[best],
            "best_loss": float(losses[best]),
            "best_weights": "best" if steps[best] else "base",
            "found_at": steps[found],
            "loss": float(losses[found]),
            "last_loss": float(losses[-1]),
            "training_loss_before": float(np.median(before)),
            "training_loss_now": float(np.median(last)),
            **evidence,
        },
        next_action=(
            f"use the weights {weights}; end the next run there, or give it more rows"
            if steps[best]
            else "lower train.learning_rate, or give it more rows: it only got worse"
        ),
        changes=(f"train.max_steps={steps[best]}",) if steps[best] else (),
    )
