"""Logs of runs as training makes them, with noise, to break in one way at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tunebook.records import ExampleLoss, StepRecord
from tunebook.watch.run_log import RunFacts, RunLog

STEPS = 160
BATCH = 8


def made_steps(
    n_steps: int = STEPS,
    *,
    seed: int = 0,
    rate: float = 1e-3,
    warmup: int = 0,
    source: str = "rows",
) -> list[StepRecord]:
    """Make a healthy run: a loss that falls, examples that differ, a canary at the same level."""
    random = np.random.default_rng(seed)
    order = random.permutation(n_steps * BATCH)
    return [
        _made_step(i, n_steps, random, order, rate * min(1.0, (i + 1) / max(warmup, 1)), source)
        for i in range(n_steps)
    ]


def _made_step(
    place: int,
    n_steps: int,
    random: np.random.Generator,
    order: np.ndarray,
    rate: float,
    source: str,
) -> StepRecord:
    level = 2.0 + 1.5 * np.exp(-place / (n_steps / 4))
    after = 2.0 + 1.5 * np.exp(-(place + 1) / (n_steps / 4))
    counts = random.integers(8, 40, BATCH)
    losses = level + 0.5 * random.standard_normal(BATCH)
    examples = tuple(
        ExampleLoss(
            f"{source}#{order[place * BATCH + k]}", float(losses[k] * counts[k]), int(counts[k])
        )
        for k in range(BATCH)
    )
    target_tokens, loss_sum = int(counts.sum()), float((losses * counts).sum())
    return StepRecord(
        step=place + 1,
        epoch=(place + 1) / n_steps,
        loss=loss_sum / target_tokens,
        loss_sum=loss_sum,
        target_tokens=target_tokens,
        tokens=2 * target_tokens,
        padding_tokens=0,
        learning_rate=rate,
        grad_norm=float(np.exp(0.15 * random.standard_normal())),
        clipped=False,
        applied=True,
        update_ratio=1e-3 * float(np.exp(0.05 * random.standard_normal())),
        changed_fraction=1.0,
        examples=examples,
        lengths=tuple(2 * int(n) for n in counts),
        sources={source: 2 * target_tokens},
        canary_loss=after + 0.01 * float(random.standard_normal()),
        seconds=0.1,
        memory_bytes=None,
    )


def log_of(steps: list[StepRecord], **facts: object) -> RunLog:
    """Make the log of steps; `facts` are those of `RunFacts`."""
    known: Mapping[str, object] = {
        "total_steps": len(steps),
        "steps_per_epoch": len(steps),
        **facts,
    }
    return RunLog(steps, (), RunFacts(**known))  # type: ignore[arg-type]


def with_losses(step: StepRecord, losses: Mapping[int, float]) -> StepRecord:
    """Give some examples of a step, by their place, another loss per token."""
    examples = tuple(
        replace(e, loss_sum=losses[k] * e.target_tokens) if k in losses else e
        for k, e in enumerate(step.examples)
    )
    total = sum(e.loss_sum for e in examples)
    return replace(step, examples=examples, loss_sum=total, loss=total / step.target_tokens)


def harder(step: StepRecord, nats: float) -> StepRecord:
    """Make every example of a step's batch harder at the same weights."""
    return with_losses(
        step, {k: e.loss_sum / e.target_tokens + nats for k, e in enumerate(step.examples)}
    )


def hurt(step: StepRecord, nats: float) -> StepRecord:
    """Make the weights of a step worse: its batch and the canary after it."""
    return replace(harder(step, nats), canary_loss=(step.canary_loss or 0.0) + nats)
