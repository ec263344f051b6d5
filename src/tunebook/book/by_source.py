"""What each source of a run contributed, added up from its step records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunebook.records import StepRecord


@dataclass(slots=True)
class SourceTally:
    """One source over a run; `steps`, `loss_sums` and `counts` hold an entry per step it was in.

    A step whose update was left out trained nothing: it counts in the curve, not in the totals.
    """

    name: str
    examples: int = 0
    tokens: int = 0
    target_tokens: int = 0
    steps: list[int] = field(default_factory=list)
    loss_sums: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        """The loss per target token of each step."""
        pairs = zip(self.loss_sums, self.counts, strict=True)
        return [total / count if count else math.nan for total, count in pairs]

    def first_loss(self) -> float | None:
        """Average the loss over the first tenth of its steps, at least one."""
        return self._mean(slice(None, self._tenth()))

    def last_loss(self) -> float | None:
        """Average the loss over the last tenth of its steps, at least one."""
        return self._mean(slice(-self._tenth(), None))

    def _tenth(self) -> int:
        return max(math.ceil(len(self.steps) / 10), 1)

    def _mean(self, steps: slice) -> float | None:
        count = sum(self.counts[steps])
        return math.fsum(self.loss_sums[steps]) / count if count else None


def tally_sources(steps: Sequence[StepRecord]) -> dict[str, SourceTally]:
    """Add up steps by the source of their examples, in the order the sources appear."""
    tallies: dict[str, SourceTally] = {}
    for step in steps:
        found: dict[str, tuple[float, int]] = {}
        # An id begins with the name of its source; the longest name that fits is the one.
        names = sorted(step.sources, key=len, reverse=True)
        heads = [(name, (f"{name}#", f"{name}/")) for name in names]
        for name, n_tokens in step.sources.items():
            tally = tallies.setdefault(name, SourceTally(name))
            tally.tokens += n_tokens if step.applied else 0
        for example in step.examples:
            owner = next((name for name, head in heads if example.id.startswith(head)), None)
            if owner is None:
                continue
            total, count = found.get(owner, (0.0, 0))
            found[owner] = (total + example.loss_sum, count + example.target_tokens)
            if step.applied:
                tallies[owner].examples += 1
                tallies[owner].target_tokens += example.target_tokens
        for name, (total, count) in found.items():
            tally = tallies[name]
            tally.steps.append(step.step)
            tally.loss_sums.append(total)
            tally.counts.append(count)
    return tallies
