"""Small finished runs written by hand, so that tests of the book need no training."""

from __future__ import annotations

import json
from pathlib import Path

from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder
from tunebook.book.seal import seal
from tunebook.records import ExampleLoss, Sample, StepRecord, ValidationRecord

RECIPE = """\
recipe:
  name: {name}
  extends: {extends}
  model: {model}
  stage: sft
  method: {method}
  data:
  - {{path: /data/sayings.txt, format: lines}}
  lora: {{rank: {rank}}}
  train: {{learning_rate: {learning_rate}, epochs: 1.0}}
  checkpoint: {{keep: 3}}
  notebook: {{tags: [first-light]}}
environment:
  versions: {{tunebook: 0.1.0, torch: 2.13.0}}
  model_as_written: {model}
"""


MEASURED = {"train_peak_bytes": 1_000_000, "resident_peak_bytes": 400_000_000, "seconds": 10.0}


def make_step(step: int, loss: float = 2.0, target_tokens: int = 10) -> StepRecord:
    return StepRecord(
        step=step,
        epoch=step / 10,
        loss=loss,
        loss_sum=loss * target_tokens,
        target_tokens=target_tokens,
        tokens=target_tokens * 2,
        padding_tokens=0,
        learning_rate=1e-3,
        grad_norm=loss / 2,
        clipped=step % 2 == 0,
        applied=loss == loss and abs(loss) != float("inf"),
        update_ratio=1e-3,
        changed_fraction=1.0,
        examples=(ExampleLoss(f"sayings#{step}", loss * target_tokens, target_tokens),),
        lengths=(target_tokens * 2,),
        sources={"sayings": target_tokens},
        canary_loss=None,
        seconds=0.5,
        memory_bytes=1 << 20,
    )


def make_validation(step: int, loss: float, examples_hash: str = "h1") -> ValidationRecord:
    return ValidationRecord(
        step=step,
        loss=loss,
        loss_sum=loss * 100,
        target_tokens=100,
        examples=12,
        documents=10,
        scored_bytes=400,
        examples_hash=examples_hash,
        interval=(loss - 0.1, loss + 0.1),
        per_source={"sayings": loss},
        seconds=0.25,
    )


def make_run(
    book: Path,
    name: str,
    *,
    steps: int = 10,
    loss: float = 2.0,
    model: str = "tunebook/tiny",
    method: str = "full",
    extends: str = "~",
    rank: int = 16,
    learning_rate: float = 5e-5,
    predict: tuple[str, ...] = (),
    state: str | None = "finished",
    examples_hash: str = "h1",
) -> RunFolder:
    run = RunFolder(book, name)
    run.path.mkdir(parents=True)
    run.run_yaml.write_text(f"name: {name}\nmodel: {model}\nextends: {extends}\n")
    run.resolved_yaml.write_text(
        RECIPE.format(
            name=name,
            extends=extends,
            model=model,
            method=method,
            rank=rank,
            learning_rate=learning_rate,
        )
    )
    source = {
        "name": "sayings",
        "path": "/data/sayings.txt",
        "format": "lines",
        "rows_in": 120,
        "dropped": {"empty answer": 8},
        "rows_out": 112,
        "cut_rows": 1,
        "cut_tokens": 3,
        "tokens": 2000,
        "target_tokens": 1500,
        "documents": 112,
        "train_rows": 100,
        "validation_rows": 12,
        "content_hash": "abcdef0123456789",
        "cache_key": f"tokens-of-{name}",
        "notes": [],
    }
    data = {"sources": [source], "template": "lines", "notes": [], "validation_hash": "h1"}
    run.data_json.write_text(json.dumps(data))
    seal(run, "A few sayings are enough.", list(predict))
    with EventWriter(run, 1) as events:
        events.write("state", {"state": "running", "reason": "", "step": 0})
        events.write(
            "facts",
            {
                "device": "cpu",
                "steps": steps,
                "parameters": {"total": 260032, "trainable": 260032},
                "first_batch": [{"example": "sayings#1", "text": "hope: ⟦a small light⟧"}],
            },
        )
        events.write("validation", make_validation(0, loss + 1, examples_hash))
        events.write("sample", Sample(0, "hope:", "`````", "a small light", "greedy"))
        for step in range(1, steps + 1):
            events.write("step", make_step(step, loss + 1 - step / steps))
        if steps:
            events.write("validation", make_validation(steps, loss, examples_hash))
            events.write("sample", Sample(steps, "hope:", "light", "a small light", "greedy"))
        if state is not None:
            events.write("state", {"state": state, "reason": "", "step": steps})
    return run


def make_plan(
    run: RunFolder,
    *,
    seconds: float = 9.0,
    measured: dict[str, float] | None = MEASURED,
) -> None:
    """Write a plan beside a run, as its trainer does."""
    plan = {
        "model": "tunebook/tiny",
        "method": "full",
        "device": "cpu",
        "parameters": {"total": 260032, "total_untied": 260032, "trainable": 260032},
        "memory": {
            "train_peak_bytes": 1_000_000,
            "longest_batch_bytes": 1_100_000,
            "evaluation_peak_bytes": None,
            "resident_bytes": 500_000_000,
        },
        "steps": 20,
        "seconds": seconds,
        "disk": {"needed_bytes": 3_000_000},
        "checks": [
            {"name": "split-leak", "level": "refuse", "message": "2 rows are on both sides."},
            {"name": "padding-waste", "level": "warn", "message": "31 % are padding."},
        ],
        "checks_passed": 25,
        "accepted": ["split-leak"],
    }
    if measured is not None:
        plan["measured"] = measured
    run.plan_json.write_text(json.dumps(plan))
