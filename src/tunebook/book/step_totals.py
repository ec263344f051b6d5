"""What a summary says of the steps of a run, from records or from columns alike."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tunebook.records import StepRecord

SPARKS = 24
"""Pairs of lowest and highest loss that a small curve is drawn of."""


@dataclass(frozen=True, slots=True)
class StepTotals:
    """The first and the last step, the late loss, the peak of memory and a small loss curve.

    `sparks` has up to `SPARKS` pairs (lowest, highest), one for each equal share of the steps, so
    that a spike of one step stays visible.
    """

    first: int | None = None
    last: int | None = None
    late_loss: float | None = None
    peak_memory_bytes: int | None = None
    sparks: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """What the steps of a run took together; of an imported curve little of it is known.

    Of `clip_known` steps the gradient was clipped in `clipped`; in `left_out` the update was not
    applied.
    """

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    target_tokens: int = 0
    peak_memory_bytes: int | None = None
    clipped: int = 0
    clip_known: int = 0
    left_out: int = 0


PHASES = ("data_seconds", "pass_seconds", "canary_seconds")
"""Fields of a step that say where its time went; the rest is the update."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What steps took together, of those whose time is known; `phases` has sums of `PHASES`.

    A phase that is not known of every step, as in logs of old, is left out.
    """

    steps: int = 0
    seconds: float = 0.0
    tokens: float = 0.0
    target_tokens: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepProfile:
    """Where the time of one step went that was looked at kernel by kernel.

    `groups` are seconds by what was done, the longest first, and `largest` those of single
    operations in the first group;
    `product_flops` counts the operations of its matrix products, None where nobody counted.
    """

    step: int
    seconds: float
    groups: Mapping[str, float]
    largest: Mapping[str, float]
    product_flops: float | None


def pace_of_records(steps: Iterable[StepRecord], without: Collection[int] = ()) -> Pace:
    """Sum up where the time of the steps went, `without` those that were profiled."""
    kept = [s for s in steps if s.seconds is not None and s.step not in without]
    phases = {}
    for name in PHASES if kept else ():
        values = [getattr(step, name) for step in kept]
        if None not in values:
            phases[name] = math.fsum(values)
    return Pace(
        len(kept),
        math.fsum(s.seconds or 0.0 for s in kept),
        sum(s.tokens or 0 for s in kept),
        sum(s.target_tokens or 0 for s in kept),
        phases,
    )


def work_of_records(steps: Sequence[StepRecord]) -> Work:
    """Sum up what step records took."""
    clips = [step.clipped for step in steps if step.clipped is not None]
    return Work(
        len(steps),
        sum(step.seconds or 0.0 for step in steps),
        sum(step.tokens or 0 for step in steps),
        sum(step.target_tokens or 0 for step in steps),
        max((s.memory_bytes for s in steps if s.memory_bytes is not None), default=None),
        sum(clips),
        len(clips),
        sum(step.applied is False for step in steps),
    )


def totals_of_records(steps: Sequence[StepRecord]) -> StepTotals:
    """Sum up step records."""
    if not steps:
        return StepTotals()
    late = steps[-late_steps(len(steps)) :]
    sums = [None if s.target_tokens is None else (s.loss_sum or 0.0, s.target_tokens) for s in late]
    known = [step.loss for step in steps if math.isfinite(step.loss)]
    return StepTotals(
        steps[0].step,
        steps[-1].step,
        late_loss([step.loss for step in late], sums),
        max((s.memory_bytes for s in steps if s.memory_bytes is not None), default=None),
        tuple((min(known[a:b]), max(known[a:b])) for a, b in spark_shares(len(known))),
    )


def late_steps(n: int) -> int:
    """Count the steps that the late loss is taken of: the last tenth, at least one."""
    return max(math.ceil(n / 10), 1)


def late_loss(losses: Sequence[float], sums: Sequence[tuple[float, float] | None]) -> float | None:
    """Average the loss per target token; `sums` are (summed loss, target tokens) of each step.

    Of an imported curve the target tokens are not known; there it is the plain mean of what was
    logged.
    """
    known = [pair for pair in sums if pair is not None]
    if len(known) < len(losses):
        return math.fsum(losses) / len(losses)
    weight = sum(tokens for _, tokens in known)
    return math.fsum(loss for loss, _ in known) / weight if weight else None


def spark_shares(n: int) -> list[tuple[int, int]]:
    """Cut `n` losses into up to `SPARKS` equal shares, as (first, end)."""
    edges = [n * k // SPARKS for k in range(SPARKS + 1)]
    return [(a, b) for a, b in zip(edges, edges[1:], strict=False) if a < b]
