"""A training run on both cores, with the server asked ten times a second and without it.

    python benchmarks/web/beside_training.py [--book FOLDER] [--runs 3] [--rounds 5] [--steps 60] \
        [--write]

Each round trains the embedded model twice with `tunebook train` in a session of its own, as from
another terminal, once beside a server that is asked for pages and once alone, in turns first. What
a run took is the sum of the seconds of its steps, of which the first tenth is left out. The pages
are those of a book of --runs runs, or of the one of --book, such as `made.py` writes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults_io"))

from made import make_book
from safety import record
from served import Client, machine, served, share

import tunebook
from tunebook.book.places import RunFolder
from tunebook.book.reader import RunReader

PER_SECOND = 10
SLOWEST_MS = 300.0  # what 99 of 100 pages may take
MOST_SLOWED = 1.10  # and how much longer the steps beside them
RUN_FILE = """\
name: {name}
model: tunebook/tiny
method: full
data: [{{path: {sayings}, format: lines}}]
train: {{max_steps: {steps}, effective_batch_size: 16, micro_batch_size: 16, learning_rate: 1e-4}}
evaluate: {{every: 1000000}}
checkpoint: {{every: 1000000, keep: 1}}
"""
SAYINGS = Path(tunebook.__file__).parent / "embedded" / "data" / "sayings.txt"


def main() -> None:
    """Train in turns with and without readers, and print both as ratios."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--book", type=Path)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        book = chosen.book or make_book(
            Path(scratch) / "book", chosen.runs, 500 if chosen.runs < 100 else 60
        )
        runs = len(list((book / "runs").iterdir()))
        print(f"{runs} runs in the book; {machine()}")
        took: list[float] = []
        ratios = []
        with served(book) as port:
            Client(port).timed("/")
            while b"/reading" in Client(port).timed("/")[0]:
                time.sleep(1)
        for number in range(chosen.rounds):
            pair = {}
            for beside in (True, False) if number % 2 else (False, True):
                pair[beside] = one_run(
                    book, f"training-{number}-{beside}", chosen.steps, beside, took
                )
            ratios.append(pair[True] / pair[False])
            print(
                f"round {number}: alone {pair[False]:.2f} s, beside the server {pair[True]:.2f} s, "
                f"ratio {ratios[-1]:.3f}; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        slowed, p99 = statistics.median(ratios), share(took, 0.99)
        print(f"ratio: median {slowed:.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")
        print(
            f"{len(took)} requests at {PER_SECOND} a second: median {share(took, 0.5):.0f} ms, "
            f"p99 {p99:.0f} ms, worst {max(took):.0f} ms"
        )
        record("W1", "W1", "Pages answer beside training, and hardly slow it", chosen, len(took),
               (slowed >= MOST_SLOWED) + (p99 >= SLOWEST_MS), f"{runs:,} runs in the book, "
               f"{PER_SECOND} requests a second: training beside them took {slowed:.3f} times as "
               f"long (median of {len(ratios)} rounds in turns, {min(ratios):.3f} to "
               f"{max(ratios):.3f}), and 99 of 100 pages took under {p99:.0f} ms")  # fmt: skip


def one_run(book: Path, name: str, steps: int, beside: bool, took: list[float]) -> float:
    """Train once; gives the seconds that its steps took."""
    file = book / f"{name}.yaml"
    file.write_text(RUN_FILE.format(name=name, sayings=SAYINGS, steps=steps))
    run = RunFolder(book, name)
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    command = [sys.executable, "-m", "tunebook", "train", str(file)]

    def train() -> None:
        done = subprocess.run(
            command, cwd=book, env=environment, capture_output=True, text=True, check=False,
            start_new_session=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)

    try:
        if beside:
            with served(book) as port:
                training = threading.Thread(target=train)
                training.start()
                ask(port, name, training, took)
                training.join()
        else:
            train()
        seconds = RunReader(run).look().steps["seconds"]
        return float(seconds[len(seconds) // 10 :].sum())
    finally:
        file.unlink()
        shutil.rmtree(run.path, ignore_errors=True)


def ask(port: int, name: str, training: threading.Thread, took: list[float]) -> None:
    """Ask for a mix of pages, ten times a second, while the run takes steps."""
    client, asked, since = Client(port), 0, 0
    due = time.perf_counter()
    while training.is_alive():
        kinds = ("/", f"/runs/{name}", f"/curves.json?run={name}&since={since}")
        status, body, seconds = client.get(kinds[asked % len(kinds)])
        if status == 200 and b"last_step" in body:
            since += 1
        if status == 200 and since:  # before its first step it is being prepared
            took.append(seconds * 1000)
        asked += 1
        due += 1 / PER_SECOND
        time.sleep(max(due - time.perf_counter(), 0))


if __name__ == "__main__":
    main()
