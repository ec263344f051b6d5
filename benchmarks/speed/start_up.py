"""Seconds from the command to the first step, and the processor's seconds of the whole command.

    python benchmarks/speed/start_up.py --repeats 3

`tunebook train` on the embedded model and sayings, three steps, as a user runs it: launcher, child,
plan with its rehearsal, the longest micro-batch tried out, first validation and answer. Times are
those of the run's own events. Processor seconds hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from record import write_result

from tunebook.book.places import create_book
from tunebook.workflows.demo import DATA

STAGES = {
    "the run's folder shows a state": ("state", None),
    "data is ready, planning": ("note", "trying out"),
    "model is ready": ("facts", None),
    "first validation": ("validation", None),
    "first step": ("step", None),
}


def one(book: Path, name: str, model: str) -> dict[str, float]:
    """Train once; gives seconds since the command by stage, and those of the processor."""
    recipe = {
        "name": name,
        "model": model,
        "data": [{"path": str(DATA)}],
        "max_seq_len": 128,
        "validation": {"fraction": 0.1},
        "train": {"max_steps": 3, "effective_batch_size": 8, "learning_rate": 1e-3},
        "evaluate": {"prompts": ["hope:"], "max_new_tokens": 8},
        "accept": ["random-base"],
    }
    path = book / f"{name}.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    command = [sys.executable, "-m", "tunebook", "train", str(path)]
    done = subprocess.run(command, cwd=book, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    ended, after = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    [log] = (book / "runs" / name / "events").glob("*.jsonl")
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    found = {
        stage: next(
            datetime.fromisoformat(event["time"]).timestamp() - began
            for event in events
            if event["kind"] == kind and (said is None or said in event["text"])
        )
        for stage, (kind, said) in STAGES.items()
    }
    found["the command has ended"] = ended - began
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**found, "processor, whole command": used}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="tunebook/tiny")
    parser.add_argument("--case", default="start-up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        book = create_book(Path(folder) / "book")
        found = [one(book, f"run-{i}", options.model) for i in range(options.repeats)]
    rows = []
    for stage in found[0]:
        seconds = [each[stage] for each in found]
        rows.append([stage, round(min(seconds), 2), round(statistics.median(seconds), 2)])
        print(f"{stage:32} {rows[-1][1]:7.2f} {rows[-1][2]:7.2f}")
    write_result(
        options.case,
        title="From the command to the first step",
        command=f"python benchmarks/speed/start_up.py --repeats {options.repeats}",
        settings={
            "model": options.model,
            "repeats": options.repeats,
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "load_average": round(os.getloadavg()[0], 1),
        },
        columns=["seconds until", "least", "median"],
        rows=rows,
        notes=["Half of the processor's seconds are imports of torch and transformers."],
    )


if __name__ == "__main__":
    main()
