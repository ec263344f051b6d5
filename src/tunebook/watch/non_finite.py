"""Loss or gradient that is not a finite number."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunebook.records import StepRecord, Verdict

_SHOWN_IDS = 20


def find_non_finite(steps: Sequence[StepRecord]) -> Verdict | None:
    """Find steps whose loss or gradient was NaN or infinite; such updates are never applied.

    The evidence names the rows whose own loss is not finite, or every row of the first such step
    when only the gradient is.
    """
    bad = [step for step in steps if not _finite(step)]
    if not bad:
        return None
    first, last = bad[0], bad[-1]
    before = [step.step for step in steps if step.step < first.step and _finite(step)]
    rows = [e.id for step in bad for e in step.examples if not math.isfinite(e.loss_sum)]
    blamed = bool(rows)
    ids = list(dict.fromkeys(rows or [e.id for e in first.examples]))
    what = "the loss" if not math.isfinite(first.loss) else "the gradient"
    if _broke_weights(first):
        cause = (
            f"the update of step {first.step} made weights NaN or infinite although its loss and "
            "gradient were finite: the optimizer's state was not, or train.learning_rate too high"
        )
        action = (
            "train on from the last checkpoint before that step, as a new run's model, with a "
            "lower train.learning_rate"
            if before
            else "lower train.learning_rate and train a new run; no step of this one was sound"
        )
    elif blamed:
        cause = f"{what} became {_word(first)} at step {first.step}, from {len(ids)} row(s)"
        action = "look at the rows named in the evidence, then lower train.learning_rate"
    else:
        cause = f"{what} became {_word(first)} at step {first.step}; no single row is to blame"
        action = (
            "lower train.learning_rate, lengthen the warm-up or train with precision: fp32, "
            "from the last good checkpoint"
        )
    return Verdict(
        kind="non_finite",
        step=first.step,
        last_step=last.step,
        cause=cause,
        confidence="certain",
        evidence={
            "first_step": first.step,
            "last_step": last.step,
            "last_finite_step": before[-1] if before else None,
            "steps": len(bad),
            "loss": first.loss,
            "grad_norm": first.grad_norm,
            "learning_rate": first.learning_rate,
            "examples": ids[:_SHOWN_IDS],
            "examples_left_out": max(len(ids) - _SHOWN_IDS, 0),
        },
        next_action=action,
    )


def _finite(step: StepRecord) -> bool:
    # Of weights that are no numbers the ratio is NaN; large ones may overflow it.
    broke = math.isnan(step.update_ratio or 0.0)
    return step.applied is not False and not broke and math.isfinite(step.loss + _norm(step))


def _norm(step: StepRecord) -> float:
    return 0.0 if step.grad_norm is None else step.grad_norm


def _broke_weights(step: StepRecord) -> bool:
    finite = math.isfinite(step.loss) and math.isfinite(_norm(step))
    return step.applied is not False and finite


def _word(step: StepRecord) -> str:
    value = _norm(step) if math.isfinite(step.loss) else step.loss
    return "NaN" if math.isnan(value) else "infinite"
