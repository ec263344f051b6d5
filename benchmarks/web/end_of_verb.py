"""What the pages cost at the end of a verb in a large book: all of them, none, and one run's.

    python benchmarks/web/end_of_verb.py [--book FOLDER] [--runs 2000] [--steps 6] [--times 3]

Without --book a book is made in a scratch folder first. One that is named is written to. Each
build is a process of its own, its start included, as it is after a training.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from made import make_book
from served import machine

from tunebook.book.events import EventWriter
from tunebook.book.places import list_runs

BUILD = (
    "import sys; from pathlib import Path; from tunebook.workflows.notebook import build_notebook; "
    "every = sys.argv[2] == '1'; "
    "print(len(build_notebook(Path(sys.argv[1]), drawing_seconds=0, every_page=every)))"
)


def main() -> None:
    """Measure and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--book", type=Path)
    options.add_argument("--runs", type=int, default=2000)
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--times", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        book = chosen.book or make_book(Path(scratch) / "book", chosen.runs, chosen.steps)
        print(f"{len(list_runs(book))} runs; {machine()}; seconds", flush=True)
        for what, wall, cpu, changed in measure(book, chosen.times):
            load = os.getloadavg()[0]
            print(
                f"{what:<28} {wall:8.2f} wall {cpu:8.2f} CPU {changed:>5} pages; load {load:.1f}",
                flush=True,
            )


def measure(book: Path, times: int) -> Iterator[tuple[str, float, float, int]]:
    """Give what was built, its seconds of wall clock and processor, and the pages that changed."""
    yield "every page", *_build(book, every_page=True)
    for _ in range(times):
        yield "nothing changed", *_build(book)
    run = list_runs(book)[-1]
    for attempt in range(2, times + 2):
        with EventWriter(run, attempt) as events:
            events.write("state", {"state": "finished", "reason": "", "step": attempt})
        yield "one run changed", *_build(book)


def _build(book: Path, *, every_page: bool = False) -> tuple[float, float, int]:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(book), str(int(every_page))],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, cpu, int(done.stdout)


if __name__ == "__main__":
    main()
