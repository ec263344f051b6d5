"""One root cause per incident: what follows from a cause is told with it, not beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunebook.kinds import FAULTS
from tunebook.records import Verdict

# Facts of the log: they are no effects of what statistics find, whenever that begins.
_FACTS = (
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
)
# Of the same moment, causes before effects.
_FOUND = (
    "gradient_scale",
    "bad_batch",
    "corrupted_targets",
    "peak_lr",
    "lr_too_high",
    "spike_isolated",
    "bad_example",
)
# What a whole run came to, whenever it began.
_OUTCOMES = (
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
        "weights_frozen_by_precision",
        "no_learning",
        "repeated_rows",
        "lr_jump",
        "clip_switch",
        "resumed_state",
        "data_boundary",
        "padding_or_length",
        "corrupted_targets",
        "peak_lr",
        "lr_too_high",
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
# One example hurts nothing for long, and of hurt weights some example is always the worst.
_HURT = frozenset({"peak_lr", "lr_too_high", "spike_isolated", "divergence", "bad_example"})
_HURT_SHOWS_AFTER = 3
_EARLIER_STEPS = 12
_BEHIND_STEPS = 12
_OF_EXAMPLE = 2


def root_causes(found: Sequence[Verdict]) -> list[Verdict]:
    """Put each effect under its cause, in `followed_by` of the evidence; notices stay.

    Facts come first, then what statistics found in the order of time: after weights are hurt,
    data that looks unusual is an effect; before that it may be the cause. What the run came to is
    told last.
    """
    notices = [v for v in found if v.kind not in FAULTS]
    faults = sorted((v for v in found if v.kind in FAULTS), key=_rank)
    causes: list[Verdict] = []
    effects: dict[int, list[str]] = {}
    for verdict in faults:
        place = next((i for i, c in enumerate(causes) if _explains(c, verdict)), None)
        if place is None:
            causes.append(verdict)
        elif verdict.kind != causes[place].kind:
            effects.setdefault(place, []).append(verdict.kind)
    told = [
        replace(c, evidence={**c.evidence, "followed_by": list(dict.fromkeys(effects[i]))})
        if i in effects
        else c
        for i, c in enumerate(causes)
    ]
    return told + notices


def _rank(verdict: Verdict) -> tuple[int, int, int]:
    step = _begins(verdict)
    if verdict.kind in _FACTS:
        return 0, _FACTS.index(verdict.kind), step
    if verdict.kind in _OUTCOMES:
        return 2, _OUTCOMES.index(verdict.kind), step
    kind = _FOUND.index(verdict.kind) if verdict.kind in _FOUND else len(_FOUND)
    # What hurts shows a little before it is counted as hurt: its onset is set back.
    return 1, step + (_HURT_SHOWS_AFTER if verdict.kind in _HURT else 0), kind


def _begins(verdict: Verdict) -> int:
    if verdict.step is not None:
        return verdict.step
    return verdict.last_step if verdict.last_step is not None else 10**9


def _explains(cause: Verdict, effect: Verdict) -> bool:
    if effect.kind in _OWN or cause.kind in _HARMLESS:
        return False
    first, begins = cause.step or 0, _begins(effect)
    if effect.kind == "overfitting":  # it began at some step until the next validation
        begins = effect.evidence["onset_between"][1]  # type: ignore[index]
    if begins < first - _EARLIER_STEPS:
        return False
    if cause.kind == "random_base":  # what knows nothing finds some rows harder than others
        return effect.kind in ("bad_example", "worse_than_base")
    if cause.kind in _LASTING:
        return True
    if cause.kind == "bad_example":
        steps = cause.evidence.get("steps", ())
        near = [abs(begins - s) <= _OF_EXAMPLE for s in steps]  # type: ignore[attr-defined]
        return any(near)
    last = cause.last_step if cause.last_step is not None else first
    return begins <= last + _BEHIND_STEPS
