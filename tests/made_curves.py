"""Logs of runs that never were, with noise like that of real ones, for tests of detectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from made_runs import make_step, make_validation
from tunebook.records import ExampleLoss, StepRecord, ValidationRecord
from tunebook.watch.run_log import RunFacts, RunLog

Curve = Callable[[float], float]
"""A loss by the share of the run that is behind it, 0 to 1."""


def falling(from_loss: float = 3.0, to_loss: float = 1.5, rate: float = 4.0) -> Curve:
    return lambda x: to_loss + (from_loss - to_loss) * float(np.exp(-rate * x))


def made_log(
    train: Curve,
    held_out: Curve | None = None,
    *,
    steps: int = 200,
    every: int = 20,
    documents: int = 300,
    seed: int = 0,
    facts: RunFacts | None = None,
    epochs: float = 1.0,
    **columns: float | None,
) -> RunLog:
    """Make a log; batches vary by 4 %, documents from each other by a quarter.

    Between two validations a document's loss moves by 2 % of itself beside the curve. Further
    columns of StepRecord are the same at every step.
    """
    draw = np.random.default_rng(seed)
    noise = draw.normal(1, 0.04, steps + 1)
    records = [
        replace(
            make_step(n, train(n / steps) * noise[n]),
            epoch=epochs * n / steps,
            **columns,  # type: ignore[arg-type]
        )
        for n in range(1, steps + 1)
    ]
    counts = draw.integers(20, 200, documents)
    level = np.exp(draw.normal(0, 0.25, documents))
    level *= counts.sum() / (level @ counts)
    validations = []
    for n in range(0, steps + 1, every) if held_out else ():
        loss = held_out(n / steps)
        losses = loss * level * draw.normal(1, 0.02, documents)
        validations.append(_validation(n, losses, counts))
    return RunLog(records, validations, facts or RunFacts(total_steps=steps))


def _validation(step: int, losses: np.ndarray, counts: np.ndarray) -> ValidationRecord:
    kept = tuple(
        ExampleLoss(f"held#{i}", float(loss * count), int(count))
        for i, (loss, count) in enumerate(zip(losses, counts, strict=True), start=1)
    )
    total = int(counts.sum())
    loss = float(losses @ counts) / total
    return replace(
        make_validation(step, loss),
        loss_sum=loss * total,
        target_tokens=total,
        documents=len(kept),
        per_document=kept,
    )


def without_documents(log: RunLog) -> RunLog:
    """Leave only what an imported curve has."""
    return RunLog(log.steps, [replace(v, per_document=()) for v in log.validations], log.facts)


def with_holes(log: RunLog) -> RunLog:
    """Make columns NaN or unknown at every fifth step and one validation, as imports have them."""

    def holed(step: StepRecord) -> StepRecord:
        if step.step % 5:
            return step
        nan = float("nan")
        return replace(
            step,
            loss=nan,
            grad_norm=nan,
            learning_rate=nan,
            epoch=nan,
            update_ratio=None,
            changed_fraction=None,
            applied=False,
        )

    nan_at = len(log.validations) // 3
    validations = [
        replace(
            v,
            loss=float("nan"),
            per_document=tuple(replace(d, loss_sum=float("nan")) for d in v.per_document),
        )
        if i == nan_at
        else v
        for i, v in enumerate(log.validations)
    ]
    return RunLog([holed(s) for s in log.steps], validations, log.facts)
