"""What pages cost the server, in milliseconds of a processor: a number that no load changes.

    python benchmarks/web/cost.py [--book FOLDER] [--runs 2000] [--steps 60] [--times 10]

First every page of a book on which nothing happens, asked for again and again: the first answer,
the median and the slowest of the others, and what each took of a processor. Then the mix of
`beside_training.py`, ten requests a second, beside a process that writes a step every 0.3 s.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path

import psutil
from made import make_book
from served import Client, machine, served, share
from soak import step_record

from tunebook.book.events import EventWriter
from tunebook.book.liveness import acquire_run
from tunebook.book.places import RunFolder

LIVING = "living"
PAGES = (
    "/", "/?sort=-val_loss", "/?group=model&baseline=run-000", "/runs.md", "/runs.csv",
    "/runs.json", "/runs/run-001", "/runs/run-001/live", "/runs/run-001/sources",
    "/runs/run-001/note", "/runs/run-001/curves.csv", "/runs/run-001/file/run.yaml",
    "/curves.json?run=run-001", "/compare", "/compare?run=run-001&run=run-002", "/side",
    "/side?run=run-001&run=run-002", "/lineage", "/lineage?run=run-002", "/lineage.json",
    "/lineage.mmd", "/sweep", "/sweep?by=judge", "/chess", "/notebook", "/notebook.md",
    "/notebook/run-001", "/notebook/run-001.md", "/grid/run-001", "/reading",
)  # fmt: skip
MIX = ("/", f"/runs/{LIVING}", f"/curves.json?run={LIVING}&since=1")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--book", type=Path)
    options.add_argument("--runs", type=int, default=2000)
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--times", type=int, default=10)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        book = chosen.book or make_book(Path(scratch) / "book", chosen.runs, chosen.steps)
        print(f"{len(list((book / 'runs').iterdir()))} runs; {machine()}; milliseconds")
        with served(book) as port:
            server = psutil.Process(server_of_this_process())
            while b'hx-get="/reading"' in Client(port).timed("/")[0]:
                time.sleep(1)
            alone(port, server, chosen.times)
        beside_a_writer(book, 30 * chosen.times)


def server_of_this_process() -> int:
    """Find the server that `served` started."""
    children = psutil.Process(os.getpid()).children()
    return next(one.pid for one in children if "ui" in one.cmdline())


def cpu_ms(process: psutil.Process) -> float:
    """Give what a process has taken of processors."""
    return 1000 * sum(process.cpu_times()[:2])


def alone(port: int, server: psutil.Process, times: int) -> None:
    """Ask for every page, and again."""
    print(f"{'':36}{'first':>8}{'median':>8}{'worst':>8}{'CPU':>8}{'kB':>8}")
    for path in PAGES:
        client = Client(port)
        _, _, first = client.get(path)
        before = cpu_ms(server)
        answers = [client.timed(path) for _ in range(times)]
        each = (cpu_ms(server) - before) / times
        took = [ms for _, ms in answers]
        print(
            f"{path:36}{first * 1000:8.0f}{share(took, 0.5):8.0f}{max(took):8.0f}{each:8.1f}"
            f"{len(answers[0][0]) / 1000:8.0f}",
            flush=True,
        )


def beside_a_writer(book: Path, count: int) -> None:
    """Ask ten times a second, while a run of the book goes on."""
    run = RunFolder(book, LIVING)
    shutil.copytree(book / "runs" / "run-001", run.path, ignore=shutil.ignore_patterns("events"))
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    writer = context.Process(target=write, args=(book, over))
    writer.start()
    try:
        with served(book) as port:
            server, client = psutil.Process(server_of_this_process()), Client(port)
            while b"last_step" not in client.get(MIX[2])[1]:
                time.sleep(0.1)
            for path in MIX:
                client.timed(path)
            took: dict[str, list[float]] = {path: [] for path in MIX}
            before, due = cpu_ms(server), time.perf_counter()
            for number in range(count):
                path = MIX[number % len(MIX)]
                took[path].append(client.timed(path)[1])
                due += 0.1
                time.sleep(max(due - time.perf_counter(), 0))
            print(f"beside a writer: {(cpu_ms(server) - before) / count:.1f} of a processor each")
            for path, each in took.items():
                print(f"{path:36} median {share(each, 0.5):.0f}, p99 {share(each, 0.99):.0f}")
    finally:
        over.set()
        writer.join()
        shutil.rmtree(run.path)


def write(book: Path, over: multiprocessing.synchronize.Event) -> None:  # type: ignore[name-defined]
    """Write steps as a trainer does."""
    run = RunFolder(book, LIVING)
    with acquire_run(run) as lease, EventWriter(run, 1) as events:
        events.write("state", {"state": "running", "reason": "", "step": 0})
        step = 0
        while not over.wait(0.3):
            step += 1
            events.write("step", step_record(step, 3.0))
            lease.beat()


if __name__ == "__main__":
    main()
