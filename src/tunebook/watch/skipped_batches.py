"""Rows that a step should have trained and did not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tunebook.records import StepRecord, Verdict
from tunebook.units import format_number

_SHOWN_IDS = 20


def find_skipped_batches(step: StepRecord, rows: Sequence[tuple[str, int]]) -> Verdict | None:
    """Hold what a step says it trained against its rows, given as (example id, target tokens).

    A finite update that was left out skipped all of them. An update left out for a loss or gradient
    that is not finite is what `find_non_finite` reports, as long as every row is accounted for.
    """
    expected = Counter(rows)
    trained = Counter((example.id, example.target_tokens) for example in step.examples)
    missing = list((expected - trained).elements())
    extra = list((trained - expected).elements())
    target_tokens = sum(count for _, count in rows)
    norm = step.grad_norm or 0.0
    left_out = step.applied is False and math.isfinite(step.loss) and math.isfinite(norm)
    if left_out and not missing:
        missing = list(rows)
    if not missing and not extra and step.target_tokens == target_tokens:
        return None
    ids = [name for name, _ in missing or extra]
    return Verdict(
        kind="skipped_batches",
        step=step.step,
        last_step=step.step,
        cause=_cause(step, len(missing), len(extra), len(rows), target_tokens),
        confidence="certain",
        evidence={
            "missing": len(missing),
            "rows": len(rows),
            "extra": len(extra),
            "target_tokens": step.target_tokens,
            "target_tokens_of_rows": target_tokens,
            "applied": step.applied,
            "loss": step.loss,
            "grad_norm": step.grad_norm,
            "examples": ids[:_SHOWN_IDS],
            "examples_left_out": max(len(ids) - _SHOWN_IDS, 0),
        },
        next_action=(
            "look into train.log for an error that was passed over, such as too little memory for "
            "a long row; lower train.micro_batch_size, or leave those rows out of the data"
        ),
    )


def _cause(step: StepRecord, missing: int, extra: int, rows: int, target_tokens: int) -> str:
    shown = f"its loss is {format_number(step.loss)}"
    if missing:
        update = "" if step.applied else ", and its update was left out"
        return f"step {step.step} did not train {missing} of its {rows} examples{update}; {shown}"
    if extra:
        return f"step {step.step} trained {extra} examples that are not of its rows; {shown}"
    return (
        f"step {step.step} says that it trained {step.target_tokens} target tokens, and its rows "
        f"have {target_tokens}; {shown}"
    )
