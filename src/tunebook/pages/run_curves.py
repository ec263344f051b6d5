"""The numbers that are drawn of a run."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunebook.book.events import Events
from tunebook.kinds import FAULTS
from tunebook.units import format_number

if TYPE_CHECKING:
    from tunebook.book.reader import StepColumns

_FLAGS_TOLD = 8
_VERSION = 1  # raised when figures of the same numbers look different


@dataclass(frozen=True, slots=True)
class RunCurves:
    """What is drawn of a run; columns are as long as `steps`, NaN where unknown.

    `held_out` has (step, loss, its 95 % interval or None), `flags` (kind, first and last step).
    """

    name: str
    steps: Sequence[int]
    losses: Sequence[float]
    learning_rates: Sequence[float]
    grad_norms: Sequence[float]
    held_out: Sequence[tuple[int, float, tuple[float, float] | None]]
    flags: Sequence[tuple[str, int, int]]

    def drawable(self) -> bool:
        """Tell whether there are two points to draw."""
        return len(self.steps) + len(self.held_out) > 1

    def digest(self) -> str:
        """Hash everything that is drawn."""
        found = hashlib.sha256(f"{_VERSION} {self.name} {self.held_out} {self.flags}".encode())
        for column in (self.steps, self.losses, self.learning_rates, self.grad_norms):
            found.update(array("d", column).tobytes())
        return found.hexdigest()[:16]

    def in_words(self) -> str:
        """Say what a picture of it shows, for those who do not see it."""
        known = [v for v in self.losses if math.isfinite(v)]
        words = [f"Loss of {self.name}"]
        if known:
            ends = f"{format_number(known[0])} to {format_number(known[-1])}"
            words.append(f"training {ends}, at most {format_number(max(known))}")
        if self.held_out:
            first, last = (format_number(self.held_out[i][1]) for i in (0, -1))
            words.append(f"validation {first} to {last}")
        if broken := len(self.losses) - len(known):
            words.append(f"{broken} steps not finite")
        words += [f"{kind} at step {first}" for kind, first, _ in self.flags[:_FLAGS_TOLD]]
        return "; ".join(words)


def run_curves(name: str, events: Events) -> RunCurves:
    """Take the curves of a run from its events."""

    def column(field: str) -> list[float]:
        found = (getattr(step, field) for step in events.steps)
        return [math.nan if value is None else float(value) for value in found]

    steps = [step.step for step in events.steps]
    columns = column("loss"), column("learning_rate"), column("grad_norm")
    return _curves(name, events, steps, *columns)


def curves_of_columns(name: str, events: Events, steps: StepColumns) -> RunCurves:
    """Take the curves of a run from columns; `events` has all else."""
    columns = (steps[field].tolist() for field in ("loss", "learning_rate", "grad_norm"))
    return _curves(name, events, steps["step"].astype(int).tolist(), *columns)


def _curves(
    name: str, events: Events, steps: Sequence[int], *columns: Sequence[float]
) -> RunCurves:
    losses, learning_rates, grad_norms = columns
    return RunCurves(
        name,
        steps,
        losses,
        learning_rates,
        grad_norms,
        [(v.step, v.loss, v.interval) for v in events.validations],
        [
            (v.kind, v.step, v.last_step or v.step)
            for v in events.verdicts
            if v.kind in FAULTS and v.step is not None
        ],
    )
