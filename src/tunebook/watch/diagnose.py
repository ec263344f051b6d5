"""All detectors over the log of a run, one root cause per incident."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tunebook.kinds import FAULTS
from tunebook.records import Verdict
from tunebook.watch.bad_batch import find_bad_batch
from tunebook.watch.bad_example import find_bad_example
from tunebook.watch.clip_switch import find_clip_switch
from tunebook.watch.corrupted_targets import find_corrupted_targets
from tunebook.watch.data_boundary import find_data_boundary
from tunebook.watch.divergence import find_divergence, find_rising_loss
from tunebook.watch.frozen_weights import find_frozen_weights
from tunebook.watch.grad_norm_warning import find_grad_norm_warning
from tunebook.watch.gradient_scale import find_gradient_scale
from tunebook.watch.incidents import root_causes
from tunebook.watch.instability import find_instability
from tunebook.watch.large_updates import find_large_updates
from tunebook.watch.loss_scale import find_loss_scale_mismatch
from tunebook.watch.lr_jump import find_lr_jump
from tunebook.watch.lr_too_low import find_lr_too_low
from tunebook.watch.memorised import find_memorised
from tunebook.watch.no_learning import find_no_learning
from tunebook.watch.no_validation import find_no_validation
from tunebook.watch.non_finite import find_non_finite
from tunebook.watch.overfitting import find_overfitting, overfitting_untold
from tunebook.watch.padding_or_length import find_padding_or_length
from tunebook.watch.random_base import find_random_base
from tunebook.watch.repeated_rows import find_repeated_rows
from tunebook.watch.resumed_state import find_resumed_state
from tunebook.watch.run_log import RunLog
from tunebook.watch.stagnation import find_stagnation
from tunebook.watch.validation_overlap import find_validation_overlap
from tunebook.watch.worse_than_base import find_worse_than_base


@dataclass(frozen=True, slots=True)
class Detector:
    """What finds verdicts of some kinds in a log that has all that it `needs` (`RunLog.has`).

    `untold` says why finding nothing means nothing, None where it means that nothing is there.
    """

    kinds: tuple[str, ...]
    needs: tuple[str, ...]
    find: Callable[[RunLog], Iterable[Verdict]]
    untold: Callable[[RunLog], str | None] = lambda _log: None


def _one(find: Callable[[RunLog], Verdict | None]) -> Callable[[RunLog], Iterable[Verdict]]:
    def found(log: RunLog) -> Iterable[Verdict]:
        verdict = find(log)
        return () if verdict is None else (verdict,)

    return found


DETECTORS: tuple[Detector, ...] = (
    Detector(("non_finite",), (), _one(lambda log: find_non_finite(log.steps))),
    Detector(
        ("weights_frozen_by_precision",),
        ("changed_fraction",),
        _one(lambda log: find_frozen_weights(log.steps)),
    ),
    Detector(("lr_jump",), ("learning_rate",), _one(find_lr_jump)),
    Detector(("clip_switch",), ("grad_norm",), _one(find_clip_switch)),
    Detector(("resumed_state",), ("update_ratio", "learning_rate"), _one(find_resumed_state)),
    Detector(("data_boundary",), ("sources",), _one(find_data_boundary)),
    Detector(("padding_or_length",), ("examples", "target_tokens"), _one(find_padding_or_length)),
    Detector(("repeated_rows",), ("examples",), _one(find_repeated_rows)),
    Detector(("gradient_scale",), ("grad_norm",), _one(find_gradient_scale)),
    Detector(("bad_example",), ("examples",), _one(find_bad_example)),
    Detector(("bad_batch",), ("loss",), _one(find_bad_batch)),
    Detector(("corrupted_targets",), ("canary",), _one(find_corrupted_targets)),
    Detector(("peak_lr", "lr_too_high", "spike_isolated"), ("loss",), _one(find_instability)),
    Detector(("lr_too_high", "peak_lr"), ("update_ratio",), _one(find_large_updates)),
    Detector(("divergence",), ("loss",), _one(find_divergence)),
    Detector(("rising_loss",), ("loss",), _one(find_rising_loss)),
    Detector(("grad_norm_warning",), ("grad_norm",), _one(find_grad_norm_warning)),
    # Of learning and of validations.
    Detector(("no_learning",), (), _one(find_no_learning)),
    Detector(("lr_too_low",), ("learning_rate",), _one(find_lr_too_low)),
    Detector(("random_base",), ("base",), _one(find_random_base)),
    Detector(("validation_overlap",), (), _one(find_validation_overlap)),
    Detector(("no_validation",), (), _one(find_no_validation)),
    Detector(("loss_scale_mismatch",), ("loss", "validations"), _one(find_loss_scale_mismatch)),
    Detector(("overfitting",), ("loss", "validations"), _one(find_overfitting), overfitting_untold),
    Detector(("memorised",), ("loss", "validations"), _one(find_memorised)),
    Detector(("worse_than_base",), ("base", "validations"), _one(find_worse_than_base)),
    Detector(("converged", "stagnation"), ("loss",), _one(find_stagnation)),
)

DETECTED = frozenset(kind for detector in DETECTORS for kind in detector.kinds)
"""Kinds that the log of a run shows; others are facts of its data or of evaluations."""


def diagnose(log: RunLog, detectors: Sequence[Detector] = DETECTORS) -> tuple[Verdict, ...]:
    """Give every verdict about a run, by step; `no_fault_found` where none of them is a fault."""
    looked = [d for d in detectors if all(log.has(need) for need in d.needs)]
    found = root_causes([verdict for d in looked for verdict in d.find(log)])
    if log.steps and not any(verdict.kind in FAULTS for verdict in found):
        found.append(_no_fault_found(log, looked, detectors))
    return tuple(sorted(found, key=lambda v: (v.step is None, v.step or 0)))


def coverage(
    log: RunLog, detectors: Sequence[Detector] = DETECTORS
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Give the kinds that a log can tell of, and why it cannot for each of the others."""
    seen: dict[str, None] = {}
    blind: dict[str, str] = {}
    for detector in detectors:
        lacking = [need for need in detector.needs if not log.has(need)]
        if lacking:
            blind |= dict.fromkeys(detector.kinds, f"the log has no {', '.join(lacking)}")
        elif (why := detector.untold(log)) is not None:
            blind |= dict.fromkeys(detector.kinds, why)
        else:
            seen |= dict.fromkeys(detector.kinds)
    return tuple(seen), {kind: why for kind, why in blind.items() if kind not in seen}


def _no_fault_found(
    log: RunLog, looked: Sequence[Detector], detectors: Sequence[Detector]
) -> Verdict:
    seen, blind = coverage(log, detectors)
    words = f"; nothing can be told of {', '.join(blind)}" if blind else ""
    return Verdict(
        kind="no_fault_found",
        step=None,
        last_step=None,
        cause=f"{len(looked)} detectors looked at {len(log)} steps{words}",
        confidence="likely",
        evidence={
            "steps": len(log),
            "validations": len(log.validations),
            "looked_for": list(seen),
            "not_looked_for": blind,
        },
        next_action="compare it with the runs before it",
    )
