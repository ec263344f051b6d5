"""What a logger is told of a run: numbers by name, and words; all of it from the run's events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tunebook.book.feed import FedEvent
from tunebook.book.summary import perplexity

_OF_STEP = {
    "loss": "train/loss",
    "canary_loss": "train/canary_loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "clipped": "train/clipped",
    "applied": "train/applied",
    "update_ratio": "train/update_ratio",
    "epoch": "train/epoch",
    "tokens": "train/tokens",
    "target_tokens": "train/target_tokens",
    "memory_bytes": "train/memory_bytes",
}


class Logger(Protocol):
    """One tracker, in a process of its own; whatever it raises ends that process and nothing else.

    A number of a kind is told once for a step, in the order of the steps of that kind.
    """

    def number(self, kind: str, step: int, values: Mapping[str, float], time: float) -> None:
        """Take the numbers of a step record or a validation."""

    def words(self, name: str, step: int, text: str, time: float) -> None:
        """Take Markdown about the run so far; newer words of a name stand for older ones."""

    def flush(self) -> None:
        """Make what was taken visible to others."""

    def end(self, state: str, summary: Mapping[str, object]) -> None:
        """Take how the run ended, or that it paused, and what it came to."""


def step_values(event: FedEvent) -> dict[str, float]:
    """Give the numbers of a step; what was not measured is left out, NaN stays NaN."""
    values = event.values
    found = {
        name: float(values[key])
        for key, name in _OF_STEP.items()
        if isinstance(values.get(key), (int, float))
    }
    seconds = values.get("seconds")
    if isinstance(seconds, (int, float)) and seconds > 0:
        found["train/seconds"] = float(seconds)
        for key in ("tokens", "target_tokens"):
            if isinstance(values.get(key), int):
                found[f"train/{key}_per_second"] = values[key] / seconds
    return found


def validation_values(event: FedEvent) -> dict[str, float]:
    """Give the numbers of a validation: loss with its interval, perplexity, and by source."""
    loss = event.values["loss"]
    found = {"val/loss": float(loss)}
    if not math.isnan(loss):
        found["val/perplexity"] = perplexity(loss)
    interval = event.values.get("interval")
    if interval:
        found |= {"val/loss_low": float(interval[0]), "val/loss_high": float(interval[1])}
    by_source = event.values.get("per_source") or {}
    if len(by_source) > 1:
        found |= {f"val/loss/{name}": float(value) for name, value in by_source.items()}
    return found


def verdict_words(event: FedEvent) -> str:
    """Write the verdicts of a look at the log as a list in Markdown."""
    found: Sequence[Mapping[str, Any]] = event.values.get("verdicts") or ()
    lines = []
    for one in found:
        first, last = one.get("step"), one.get("last_step")
        steps = [str(step) for step in dict.fromkeys((first, last)) if step is not None]
        where = f", step{'s' * (len(steps) > 1)} {' to '.join(steps)}" if steps else ""
        lines.append(f"- **{one.get('kind')}{where}** ({one.get('confidence')}): {one['cause']}")
    return "\n".join(lines) or "nothing found so far"
