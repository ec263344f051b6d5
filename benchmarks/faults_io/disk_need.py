"""Hold the disk that a plan asks for against the most that the run's folder held (R5).

    python benchmarks/faults_io/disk_need.py

Runs of a toy with 600,000 weights, of every method and of what else makes a checkpoint larger or
more of them stand at once. While each trains, its checkpoints and final weights are summed every
millisecond; the plan has to say that, within `LIMIT`. Pages and logs are not in the plan.
Not tried here are AdamW in 8 bits, activations kept in a file, and several devices.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import forked
import toy
from report import arguments, reported, scratch
from safety import record

LIMIT = 0.05
LENGTH = {"train": {"max_steps": 8}, "evaluate": {"every": 4}, "checkpoint": {"keep": 2}}
RUNS: dict[str, dict[str, Any]] = {
    "full": {},
    "keeps 1": {"checkpoint": {"keep": 1}},
    "keeps 5": {"checkpoint": {"keep": 5}},
    "keeps more than it saves": {"checkpoint": {"keep": 9, "every": 4}},
    "saves at the end alone": {"checkpoint": {"every": 8}},
    "no validation": {"validation": {"fraction": 0}},
    "SGD": {"train": {"optimizer": "sgd", "momentum": 0.0}},
    "SGD with momentum": {"train": {"optimizer": "sgd", "momentum": 0.9}},
    "bf16": {"precision": "bf16"},
    "saves beside the steps": {"checkpoint": {"asynchronous": True}},
    "LoRA": {"method": "lora"},
    "LoRA of rank 2": {"method": "lora", "lora": {"rank": 2}},
    "ReLoRA": toy.RELORA,
    # Without a validation: whether a part's best checkpoint is one of its newest, and takes no room
    # of its own, nobody knows before, and a plan foresees that it is none of them.
    "two parts": {"parts": 2, "validation": {"fraction": 0}},
}


def compare(book: Path, label: str, changes: dict[str, Any]) -> float | None:
    """Train a run; gives the plan's error as a share of the most there was, None if refused."""
    name = "run"
    values: dict[str, Any] = {key: dict(value) for key, value in LENGTH.items()}
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    path = toy.write_run(book, name, **values)
    shutil.rmtree(book / "runs", ignore_errors=True)
    command = forked.Command(book, ("train", str(path)))
    most = 0
    while command.poll() is None:
        most = max(most, _bytes_of(book / "runs"))
        time.sleep(0.001)
    if command.returncode != 0:
        print(f"{label:26} not trained: {command.said().strip().splitlines()[-1]}", flush=True)
        return None
    shutil.rmtree(book / "runs")
    asked = forked.run(book, "plan", str(path), "--no-probe", "--json").said()
    planned = json.loads(asked[asked.index("{") :])["disk"]["needed_bytes"]
    error = planned / most - 1
    print(f"{label:26} planned {planned:>12,}  there {most:>12,}  {error:+7.1%}", flush=True)
    return float(error)


def _bytes_of(runs: Path) -> int:
    """Sum the files of checkpoints and final weights of all runs, at this moment."""
    total = 0
    with contextlib.suppress(OSError):
        for run in list(os.scandir(runs)):
            for top in (Path(run.path, "checkpoints"), Path(run.path)):
                with contextlib.suppress(OSError):
                    for entry in list(os.scandir(top)):
                        if entry.name.startswith(("step-", ".tmp-", ".old-", ".trash-", "final")):
                            total += _files(entry.path)
    return total


def _files(folder: str) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):
                total += entry.stat().st_size
    return total


def main() -> int:
    """Train each of them."""
    parser = arguments(__doc__, len(RUNS), writes=True)
    options = parser.parse_args()
    forked.prepare()
    with scratch() as folder, reported("disk_need", options) as counts:
        book = toy.make_book(folder)
        shutil.rmtree(book / "toy")
        toy.make_model(book / "toy", width=128)
        errors = _all(book, list(RUNS.items())[: options.count], counts)
    failed = sum(error is None or abs(error) > LIMIT for error in errors)
    known = [error for error in errors if error is not None]
    note = f"errors from {min(known):+.1%} to {max(known):+.1%}" if known else ""
    promise = "The disk that a plan asks for is what the run comes to hold at most, within 5 %"
    record("R5-plan", "R5", promise, options, len(errors), failed, note)
    return 1 if failed else 0


def _all(
    book: Path, runs: list[tuple[str, dict[str, Any]]], counts: Counter[str]
) -> list[float | None]:
    errors = []
    for label, changes in runs:
        errors.append(compare(book, label, changes))
        counts["runs"] += 1
    return errors


if __name__ == "__main__":
    sys.exit(main())
