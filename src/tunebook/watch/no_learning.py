"""Weights that should learn and do not move."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_count, format_percent
from tunebook.watch.frozen_weights import always_same
from tunebook.watch.run_log import RunLog

_FEWEST_STEPS = 5
_LEAST_CHANGED = 0.75


def find_no_learning(log: RunLog) -> Verdict | None:
    """Find that nothing is trained, or that a fixed part of the weights never changes.

    An update of fp32 weights changes nearly all of them. Where over many steps the same share of
    them stays as it is, that part gets no gradient or is not given to the optimizer (a share that
    differs from step to step is what rounding does). Steps whose
    learning rate is 0 or whose update was left out say nothing, nor does the first (an adapter's
    first half moves only after its second has).
    """
    if log.facts.trainable_parameters == 0:
        return _verdict(
            log,
            f"none of the {format_count(log.facts.total_parameters or 0)} weights is trained",
            {"trainable_parameters": 0, "total_parameters": log.facts.total_parameters},
        )
    applied = np.fromiter((s.applied for s in log.steps), dtype=bool, count=len(log))
    known = applied & (log.learning_rate > 0) & np.isfinite(log.changed_fraction)
    changed = log.changed_fraction[known]
    if len(changed) < _FEWEST_STEPS:
        return None
    most = float(np.quantile(changed[1:], 0.9))
    no_gradient = bool((log.grad_norm[known] == 0).all())
    # Embeddings of tokens that no row has never change, and need not.
    unused = log.facts.embedding_parameters or 0
    idle = unused / log.facts.trainable_parameters if log.facts.trainable_parameters else 0.0
    if most >= _LEAST_CHANGED - idle or not (no_gradient or always_same(changed)):
        return None
    ratio = float(np.nanmedian(log.update_ratio[known])) if log.has("update_ratio") else None
    return _verdict(
        log,
        f"{format_percent(1 - most)} of the weights that are said to be trained never change",
        {
            "changed_fraction": most,
            "changed_fraction_median": float(np.median(changed)),
            "update_ratio": ratio,
            "steps": len(changed),
        },
    )


def _verdict(log: RunLog, cause: str, evidence: dict[str, object]) -> Verdict:
    return Verdict(
        kind="no_learning",
        step=int(log.step[0]) if len(log) else None,
        last_step=int(log.step[-1]) if len(log) else None,
        cause=cause,
        confidence="certain",
        evidence=evidence,
        next_action="look at `freeze` and at what the optimizer is given",
    )
