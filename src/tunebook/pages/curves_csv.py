"""The numbers behind the curves of a run, as CSV."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tunebook.book.reader import NUMBERS, Look
from tunebook.records import ValidationRecord

_COUNTS = {
    "step",
    "target_tokens",
    "tokens",
    "padding_tokens",
    "clipped",
    "applied",
    "memory_bytes",
}
_HELD_OUT = ("val_loss", "val_low", "val_high")


def csv_lines(look: Look) -> Iterator[str]:
    """Write every shown step with all that is known of it, a line each with its line end.

    Held-out losses stand at the step they were taken after, with their 95 % interval; step 0 is
    before training. What is unknown is empty; `NaN` is a loss that is no number.
    """
    yield ",".join((*NUMBERS, *_HELD_OUT)) + "\n"
    held_out = {validation.step: validation for validation in look.events.validations}
    columns = [look.steps[name].tolist() for name in NUMBERS]
    for values in zip(*columns, strict=True):
        step = int(values[0])
        yield from _without_step(held_out, step)
        cells = [_cell(name, value) for name, value in zip(NUMBERS, values, strict=True)]
        yield ",".join((*cells, *_validation(held_out.pop(step, None)))) + "\n"
    yield from _without_step(held_out, None)


def _without_step(held_out: dict[int, ValidationRecord], before: int | None) -> Iterator[str]:
    """Write validations at steps of which nothing else is known."""
    for step in sorted(s for s in held_out if before is None or s < before):
        empty = [""] * (len(NUMBERS) - 1)
        yield ",".join((str(step), *empty, *_validation(held_out.pop(step)))) + "\n"


def _cell(name: str, value: float) -> str:
    if math.isnan(value):
        return "NaN" if name == "loss" else ""
    return str(int(value)) if name in _COUNTS and math.isfinite(value) else repr(value)


def _validation(found: ValidationRecord | None) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    low, high = map(repr, found.interval) if found.interval else ("", "")
    return ("NaN" if math.isnan(found.loss) else repr(found.loss)), low, high
