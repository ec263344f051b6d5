"""Kill or freeze a rank of a run on two devices at a random moment, resume, and compare the end.

    python benchmarks/faults_io/ranks.py [--times 20] [--seed 1] [--minutes 60] [--write]

Prints one line per fault and the counts (goal G2 of the design): the final weights must be those of
a run that nobody touched, bit by bit, and a frozen rank must be named within twice the time that
the supervisor waits.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "tests" / "flows")]

from safety import record  # noqa: E402
from test_several_devices import CHANGES, ranks_of  # noqa: E402
from test_train_flow import tunebook, weights, write_run  # noqa: E402

from tunebook.book.events import read_events  # noqa: E402
from tunebook.book.places import RunFolder, create_book  # noqa: E402
from tunebook.models.find import find_model  # noqa: E402

STOPPED_SECONDS = 3.0
# How long after the first step of the attempt a rank is struck at most; a run takes longer.
SPREAD_SECONDS = 15.0


def fault(run: RunFolder, draw: random.Random, number: int) -> tuple[str, float]:
    """Strike a rank of a supervised run; gives the last words and the seconds until they come."""
    supervise = "import sys; from tunebook.workflows import ranks; sys.exit(ranks.main(*{}))"
    command = supervise.format((str(run.path), 2, STOPPED_SECONDS))
    begun = read_events(run).steps[-1].step if run.events.exists() else 0
    with (run.path / "supervisor.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    while not run.events.exists() or not read_events(run).steps[begun:]:
        if process.poll() is not None:
            break
        time.sleep(0.05)
    time.sleep(draw.uniform(0, SPREAD_SECONDS))
    rank, found = draw.randrange(2), ranks_of(process)
    struck = time.monotonic()
    if rank in found:
        with contextlib.suppress(psutil.Error):
            found[rank].send_signal(number)
    process.wait(120)
    if process.stdin:
        process.stdin.close()
    words = (run.path / "supervisor.log").read_text(encoding="utf-8").strip().splitlines()[-1]
    return words, time.monotonic() - struck


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    deadline = time.monotonic() + asked.minutes * 60
    changes = {**CHANGES, "train": {**CHANGES["train"], "max_steps": 60}}
    counts = {"killed": 0, "frozen": 0, "named": 0, "in time": 0, "already over": 0}
    equal = done = wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        book = create_book(Path(folder) / "book")
        whole = RunFolder(book, "whole")
        model = find_model("tunebook/tiny")
        first = tunebook(book, "train", write_run(book, "whole", model, **changes))
        assert first.returncode == 0, first.stderr
        while done < asked.times and time.monotonic() < deadline:
            run = RunFolder(book, f"hit-{done}")
            run.path.mkdir()
            for name in ("run.yaml", "resolved.yaml"):
                text = (whole.path / name).read_text(encoding="utf-8")
                (run.path / name).write_text(text.replace("whole", run.name), encoding="utf-8")
            number = draw.choice([signal.SIGKILL, signal.SIGSTOP])
            words, seconds = fault(run, draw, number)
            counts["frozen" if number == signal.SIGSTOP else "killed"] += 1
            named = "of 2 was killed" in words or "of 2 stood still" in words
            counts["named"] += named
            limit = 2 * STOPPED_SECONDS if number == signal.SIGSTOP else 15.0
            counts["in time"] += named and seconds <= limit
            over = not named and (run.final / "MANIFEST.json").exists()
            counts["already over"] += over
            at = read_events(run).steps[-1].step
            if not (run.final / "MANIFEST.json").exists():
                resumed = tunebook(book, "resume", run.name)
                assert resumed.returncode == 0, resumed.stderr
            same = weights(run) == weights(whole)
            equal += same
            wrong += not (same and (over or (named and seconds <= limit)))
            done += 1
            print(
                f"{done}: step {at}, {number.name}, {seconds:.1f} s: {words} -> {same}", flush=True
            )
    print(
        f"seed {asked.seed}: {done} faults {counts}, bit-identical after resume: {equal} of {done}"
    )
    late = counts["named"] - counts["in time"]
    note = f"{equal} of {done} end in the same bits" + (f"; {late} were named late" if late else "")
    promise = "A rank that is killed or frozen is named, and the run ends in the same bits"
    record("G2", "G2", promise, asked, done, wrong, note)


if __name__ == "__main__":
    main()
