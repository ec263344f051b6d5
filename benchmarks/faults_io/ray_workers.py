"""A sweep on a Ray cluster of two nodes: ten workers are killed, then a node (G3).

    python benchmarks/faults_io/ray_workers.py --count 10 --seed 0

Trials of a toy train on a cluster of this machine. Again and again a trial is picked that has taken
some steps, and its Ray worker or its own process is killed; in the end one of the nodes is lost.
Every trial has to end, with each of its steps taken once, in the weights and the history of the
same sweep on one process that nobody killed.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import toy
from kept import history, weights
from report import arguments, reported, scratch
from safety import record

SECONDS = 1800.0
RATES = [1e-3, 8e-4, 5e-4, 3e-4, 1e-4, 1e-5]
STEPS = 40


def make_sweep(folder: Path) -> Path:
    """Make a book with a sweep of twelve trials."""
    import json

    folder.mkdir()
    book = toy.make_book(folder)
    toy.write_run(book, "base", train={"max_steps": STEPS}, checkpoint={"every": 2, "keep": 2})
    # The model is named by a path of its book, which a trial must not differ by.
    values = {"name": "rates", "run": "base.yaml", "over": {"train.learning_rate": RATES}}
    (book / "sweep.yaml").write_text(json.dumps({**values, "seeds": 2}), encoding="utf-8")
    return book


def start(book: Path, *words: str) -> subprocess.Popen[str]:
    """Start the sweep in a process of its own."""
    command = [sys.executable, "-m", "tunebook", "sweep", "sweep.yaml", *words]
    said = (book / "said").open("w", encoding="utf-8")
    return subprocess.Popen(command, cwd=book, stdout=said, stderr=said, text=True)


def at_work(book: Path) -> list[tuple[str, int]]:
    """List the trials that have taken steps and train now, each with its trainer's process."""
    from tunebook.book.events import read_events
    from tunebook.book.liveness import trainer_here
    from tunebook.book.places import RunFolder

    found = []
    for path in sorted((book / "runs").glob("rates-*")):
        run = RunFolder(book, path.name)
        trainer = trainer_here(run)
        if trainer is not None and 3 <= len(read_events(run).steps) < STEPS - 3:
            found.append((path.name, trainer))
    return found


def kill_one(trainer: int, worker: bool) -> bool:
    """Kill a trial's own process, or the Ray worker that started it; False when it was gone."""
    try:
        victim = psutil.Process(trainer).parent()
        if worker and victim is not None:
            victim = victim.parent()
        if victim is None or victim.pid == 1:
            return False
        os.kill(victim.pid, signal.SIGKILL)
    except (psutil.Error, ProcessLookupError):
        return False
    return True


def names(book: Path) -> list[str]:
    """Name the trials of the sweep, as its folder lists them; each is listed once."""
    from tunebook.book.sweeps import SweepFolder, read_trials

    found = [trial.name for trial in read_trials(SweepFolder(book, "rates"))]
    assert len(found) == len(set(found)) == 2 * len(RATES), found
    return found


def main() -> int:
    """Kill so many workers, then a node."""
    parser = arguments(__doc__, 10)
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    rng = random.Random(options.seed)
    with scratch() as folder, reported("ray_workers", options) as counts:
        book, alone = make_sweep(folder / "killed"), make_sweep(folder / "alone")
        cluster: Any = importlib.import_module("ray.cluster_utils").Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        killed: dict[str, int] = {}
        try:
            lost = cluster.add_node(num_cpus=1)
            process, ends = start(book, "--on", cluster.address), time.monotonic() + SECONDS
            while sum(killed.values()) < options.count and process.poll() is None:
                assert time.monotonic() < ends, (book / "said").read_text()
                # Ray itself tries a task four times: more would only show its limit.
                ready = [one for one in at_work(book) if killed.get(one[0], 0) < 2]
                if ready:
                    name, trainer = rng.choice(ready)
                    worker = rng.random() < 0.5
                    time.sleep(rng.uniform(0, 0.5))
                    if kill_one(trainer, worker):
                        killed[name] = killed.get(name, 0) + 1
                        counts["workers of Ray killed" if worker else "trials killed"] += 1
                        time.sleep(1)
                time.sleep(0.02)
            assert process.poll() is None, "the sweep ended before its last kill"
            cluster.remove_node(lost, allow_graceful=False)
            counts["nodes lost"] += 1
            assert process.wait(SECONDS) == 0, (book / "said").read_text()
        finally:
            cluster.shutdown()
        assert start(alone, "--workers", "1").wait(SECONDS) == 0, (alone / "said").read_text()
        for name in names(book):
            assert history(book, name) == history(alone, name), f"{name}: another history"
            assert weights(book, name) == weights(alone, name), f"{name}: other weights"
            counts["trials, ended as those that nobody killed"] += 1
    record("G3", "G3", "Of a sweep on a Ray cluster no trial is lost or trained twice when workers "
           "are killed, then a node of two; all twelve end in the bits of the same sweep that "
           "nobody killed", options, sum(killed.values()) + 1)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
