"""One root cause per incident: what follows from a cause is told with it, not beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunebook.kinds import FAULTS
from tunebook.records import Verdict
from tunebook.watch.run_log import RunLog

# From the surest to the least: facts of the log before statistics, causes before effects.
_ORDER = (
    "non_finite",
    "skipped_batches",
    "random_base",
    "weights_frozen_by_precision",
    "no_learning",
    "validation_overlap",
    "repeated_rows",
    "lr_jump",
    "clip_switch",
    "resumed_state",
    "data_boundary",
    "padding_or_length",
    "gradient_scale",
    "bad_example",
    "bad_batch",
    "corrupted_targets",
    "peak_lr",
    "lr_too_high",
    "spike_isolated",
    "loss_scale_mismatch",
    "lr_too_low",
    "overfitting",
    "memorised",
    "divergence",
    "rising_loss",
    "worse_than_base",
)
# What hurts weights or data for good explains everything that comes after it.
_LASTING = frozenset(
    {
        "non_finite",
        "lr_jump",
        "clip_switch",
        "resumed_state",
        "data_boundary",
        "padding_or_length",
        "corrupted_targets",
        "peak_lr",
        "lr_too_high",
        "random_base",
        "repeated_rows",
        "weights_frozen_by_precision",
        "no_learning",
    }
)
# What is no effect of anything else, whenever it happens.
_OWN = frozenset(
    {
        "skipped_batches",
        "random_base",
        "validation_overlap",
        "weights_frozen_by_precision",
        "clip_switch",
        "repeated_rows",
        "lr_too_low",
    }
)
# What does nothing to the weights, so that nothing follows from it.
_HARMLESS = frozenset({"validation_overlap"})
_EARLIER_STEPS = 12
_BEHIND_STEPS = 12


def root_causes(log: RunLog, found: Sequence[Verdict]) -> list[Verdict]:
    """Put each effect under its cause, in `followed_by` of the evidence; notices stay."""
    del log
    notices = [v for v in found if v.kind not in FAULTS]
    faults = sorted((v for v in found if v.kind in FAULTS), key=_rank)
    causes: list[Verdict] = []
    effects: dict[int, list[str]] = {}
    for verdict in faults:
        place = next((i for i, c in enumerate(causes) if _explains(c, verdict)), None)
        if place is None:
            causes.append(verdict)
        else:
            effects.setdefault(place, []).append(verdict.kind)
    told = [
        replace(c, evidence={**c.evidence, "followed_by": effects[i]}) if i in effects else c
        for i, c in enumerate(causes)
    ]
    return told + notices


def _rank(verdict: Verdict) -> int:
    return _ORDER.index(verdict.kind) if verdict.kind in _ORDER else len(_ORDER)


def _explains(cause: Verdict, effect: Verdict) -> bool:
    if effect.kind in _OWN or cause.kind in _HARMLESS:
        return False
    first = cause.step or 0
    begins = effect.step if effect.step is not None else (effect.last_step or 10**9)
    if effect.kind == "overfitting":  # it began at some step until the next validation
        begins = effect.evidence["onset_between"][1]  # type: ignore[index]
    if begins < first - _EARLIER_STEPS:
        return False
    if cause.kind in _LASTING:
        return True
    last = cause.last_step if cause.last_step is not None else first
    return begins <= last + _BEHIND_STEPS
