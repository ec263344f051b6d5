"""How long all detectors take on a long log; the records are there, their columns are not.

    python benchmarks/faults/speed.py

The target is 1 s for 100,000 steps of 8 examples on an idle core.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from tunebook.records import ExampleLoss, StepRecord, ValidationRecord
from tunebook.watch.diagnose import DETECTORS, Detector, diagnose
from tunebook.watch.run_log import RunFacts, RunLog

_ROWS = 50_000
_DOCUMENTS = 500


def healthy_log(steps: int = 100_000, examples: int = 8, seed: int = 0) -> RunLog:
    """Make up the log of a healthy run with every column, 50 validations and a warm-up."""
    draw = np.random.default_rng(seed)
    level = 2 + 1.5 * np.exp(-np.arange(steps) / (0.3 * steps))
    losses = np.maximum(level[:, None] + draw.normal(0, 0.3, (steps, examples)), 0.1)
    warm = np.minimum(np.arange(1, steps + 1) / (0.05 * steps), 1.0)
    rate = 1e-4 * warm * np.linspace(1, 0.1, steps)
    norm, ratio = draw.lognormal(0, 0.2, steps), 1e-4 * warm
    canary = level + draw.normal(0, 0.02, steps)
    turns = -(-steps * examples // _ROWS)
    rows = np.concatenate([draw.permutation(_ROWS) for _ in range(turns)])
    rows = rows[: steps * examples].reshape(steps, examples).tolist()
    names = [f"made.jsonl#{row}" for row in range(_ROWS)]
    each = losses.tolist()
    records = [
        StepRecord(
            step=i + 1,
            epoch=(i + 1) * examples / _ROWS,
            loss=sum(each[i]) / examples,
            loss_sum=sum(each[i]) * 20,
            target_tokens=20 * examples,
            tokens=32 * examples,
            padding_tokens=0,
            learning_rate=float(rate[i]),
            grad_norm=float(norm[i]),
            clipped=False,
            applied=True,
            update_ratio=float(ratio[i]),
            changed_fraction=1.0,
            examples=tuple(
                ExampleLoss(names[row], 20 * loss, 20)
                for row, loss in zip(rows[i], each[i], strict=True)
            ),
            lengths=(32,) * examples,
            sources={"made.jsonl": 32 * examples},
            canary_loss=float(canary[i]),
            seconds=0.1,
            memory_bytes=None,
        )
        for i in range(steps)
    ]
    at = range(0, steps + 1, max(steps // 50, 1))
    validations = [_validation(i, float(level[min(i, steps - 1)]), draw) for i in at]
    return RunLog(records, validations, _facts(steps, examples))


def _facts(steps: int, examples: int) -> RunFacts:
    return RunFacts(
        total_steps=steps,
        steps_per_epoch=_ROWS / examples,
        warmup_steps=int(0.05 * steps),
        learning_rate=1e-4,
        max_grad_norm=100.0,
        method="full",
        vocabulary_size=32_000,
    )


def _validation(step: int, loss: float, draw: np.random.Generator) -> ValidationRecord:
    each = np.maximum(loss + draw.normal(0, 0.05, _DOCUMENTS), 0.1)
    documents = tuple(ExampleLoss(f"held.jsonl#{i}", 40 * v, 40) for i, v in enumerate(each))
    total = float(each.sum() * 40)
    return ValidationRecord(
        step=step,
        loss=total / (40 * _DOCUMENTS),
        loss_sum=total,
        target_tokens=40 * _DOCUMENTS,
        examples=_DOCUMENTS,
        documents=_DOCUMENTS,
        scored_bytes=160 * _DOCUMENTS,
        examples_hash="held",
        interval=None,
        per_source={},
        seconds=1.0,
        per_document=documents,
    )


def fresh(log: RunLog) -> RunLog:
    """Give the same records without the columns that were made of them."""
    return RunLog(log.steps, log.validations, log.facts)


def core_seconds(log: RunLog) -> float:
    """Measure one diagnosis, columns included, in seconds of the core it ran on."""
    log = fresh(log)
    started = time.process_time()
    diagnose(log)
    return time.process_time() - started


def _of(detector: Detector, log: RunLog) -> float:
    started = time.process_time()
    if all(log.has(need) for need in detector.needs):
        list(detector.find(log))
    return time.process_time() - started


def main() -> None:
    """Print the time of each detector and of all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    options = parser.parse_args()
    log = healthy_log(options.steps)
    shared = fresh(log)
    for detector in DETECTORS:
        print(f"{_of(detector, shared):7.3f} s  {', '.join(detector.kinds)}")
    print("columns count for the first detector that uses them")
    found = [verdict.kind for verdict in diagnose(fresh(log))]
    print(
        f"{options.steps:,} steps: {min(core_seconds(log) for _ in range(3)):.2f} s; said {found}"
    )


if __name__ == "__main__":
    main()
