"""Two hundred runs in one book, its pages open beside: how memory and time grow with them (L).

    python benchmarks/faults_io/many_runs.py --count 200

A toy is trained so many times, one run after the other, while a `tunebook ui` stays open and is
asked for its run list and for each new run's pages. Resident memory is read of the server, after
each run, and of each run's training process, at its highest. Of the training processes, the median
of the last tenth of the runs is held against the one of the second tenth. A server holds what its
lists show of each run, so it grows with its book: what it holds in the end is held against a server
that was only just started on the same book and asked for the same pages. 5 % or more is a failure
of either. How much the server grew, and how long a run took, is printed beside.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import forked
import psutil
import toy
from report import arguments, reported, scratch
from safety import record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "web"))
from served import Client, served

MOST = 0.05
PAGES = ("/", "/runs/{run}", "/curves.json?run={run}", "/notebook/{run}", "/lineage")
LENGTH = {"train": {"max_steps": 6}, "evaluate": {"every": 3}, "checkpoint": {"every": 3}}


def one_run(book: Path, name: str) -> tuple[int, float]:
    """Train once; gives the trainer's highest resident memory in bytes, and the seconds."""
    path = toy.write_run(book, name, **LENGTH)
    began, highest = time.monotonic(), 0
    command = forked.Command(book, ("train", str(path)))
    while command.poll() is None:
        try:
            trainer = command.trainer()
            highest = max(highest, psutil.Process(trainer).memory_info().rss if trainer else 0)
        except psutil.Error:
            pass  # it ended meanwhile
        time.sleep(0.02)
    assert command.wait() == 0, command.said()
    return highest, time.monotonic() - began


def growth(values: list[float]) -> float:
    """Hold the median of the last tenth against the one of the second tenth."""
    tenth = max(len(values) // 10, 1)
    return statistics.median(values[-tenth:]) / statistics.median(values[tenth : 2 * tenth]) - 1


def ask(port: int, name: str) -> None:
    """Ask for the run list, and for the pages of a run."""
    client = Client(port)  # the server closes one that was silent while a run took
    for page in PAGES:
        client.timed(page.format(run=name))


def memory_of_server() -> int:
    """Give the resident memory of the one server, in bytes."""
    (server,) = (one for one in psutil.Process().children() if "ui" in one.cmdline())
    return int(server.memory_info().rss)


def main() -> int:
    """Train so many runs."""
    parser = arguments(__doc__, 200)
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    options = parser.parse_args()
    forked.prepare()
    with scratch() as folder, reported("many_runs", options) as counts:
        book = toy.make_book(folder)
        servers: list[float] = []
        trainers: list[float] = []
        took: list[float] = []
        with served(book) as port:
            for number in range(options.count):
                name = f"run-{number}"
                highest, seconds = one_run(book, name)
                ask(port, name)
                servers.append(memory_of_server())
                trainers.append(highest)
                took.append(seconds)
                counts["runs"] += 1
        with served(book) as port:
            for number in range(options.count):
                ask(port, f"run-{number}")
            fresh = memory_of_server()
        of_server, of_trainer = servers[-1] / fresh - 1, growth(trainers)
        of_runs = growth(servers)
        print(f"a fresh server holds {fresh / 2**20:.1f} MiB, this one {servers[-1] / 2**20:.1f}")
        print(f"the server's memory grew by {100 * of_runs:.2f} %")
        print(f"a training process's memory grew by {100 * of_trainer:.2f} %")
        print(f"a run took {100 * growth(took):+.1f} % longer at the end")
        failed = int(of_server >= MOST) + int(of_trainer >= MOST)
    words = (
        "Two hundred runs one after the other, with the pages open beside: the memory of the "
        "training processes does not grow, and the server comes to hold what one does that is only "
        f"just started on that book ({100 * of_server:+.1f} %; it grew by {100 * of_runs:.1f} % "
        "with its runs)"
    )
    record("L-runs", "L", words, options, options.count, failed)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
