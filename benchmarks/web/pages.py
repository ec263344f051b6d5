"""How long pages of a large book take: with a cold index, warm, and after a restart.

    python benchmarks/web/pages.py [--book FOLDER] [--runs 200] [--steps 20000]

Without --book a book is made in a scratch folder first (4.4 GB at full size). Times are those of
the client: server, socket and transfer. Every run's spike of one step must be in what is sent.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import orjson
from made import make_book, spike_of
from served import Client, machine, served, share

OVERLAY = 20
ASKED = 10
"""How often each page is asked for once it is warm."""


def main() -> None:
    """Measure and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--book", type=Path)
    options.add_argument("--runs", type=int, default=200)
    options.add_argument("--steps", type=int, default=20_000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        book = chosen.book or make_book(Path(scratch) / "book", chosen.runs, chosen.steps)
        for path in (book / ".tunebook" / "index.db", *(book / ".tunebook").glob("steps/*")):
            path.unlink(missing_ok=True)
        print(f"{chosen.runs} runs of {chosen.steps} steps; {machine()}; milliseconds")
        with served(book) as port:
            wait_for_index(port, chosen.runs)
            measure(Client(port), "first server", chosen.runs, chosen.steps)
        with served(book) as port:
            measure(Client(port), "restarted", chosen.runs, chosen.steps)


def wait_for_index(port: int, runs: int) -> None:
    """Ask for the table until every run was read; says how long that and each answer took."""
    client, began = Client(port), time.perf_counter()
    answers = []
    while True:
        body, took = client.timed("/")
        answers.append(took)
        if body.count(b"data-row") != runs:
            raise SystemExit(f"{body.count(b'data-row')} of {runs} runs were shown")
        if b'hx-get="/reading"' not in body:
            break
        time.sleep(1)
    print(
        f"cold index: every run read after {time.perf_counter() - began:.1f} s; first answer "
        f"{answers[0]:.0f} ms, then median {share(answers[1:] or answers, 0.5):.0f} ms, "
        f"worst {max(answers[1:] or answers):.0f} ms"
    )


def measure(client: Client, when: str, runs: int, steps: int) -> None:
    """Print first and later times of the pages, and check the spikes."""
    names = [
        f"run-{n * runs // OVERLAY if runs > OVERLAY else n:03d}" for n in range(min(runs, OVERLAY))
    ]
    overlay = "/curves.json?y=loss&" + "&".join(f"run={name}" for name in names)
    for what, path in (("runs page", "/"), (f"overlay of {len(names)} runs", overlay)):
        _, first = client.timed(path)
        later = [client.timed(path) for _ in range(ASKED)]
        times = [ms for _, ms in later]
        print(
            f"{when:12}  {what:20}  first {first:6.0f}  then median {share(times, 0.5):6.0f}"
            f"  worst {max(times):6.0f}  {len(later[0][0]) / 1000:.0f} kB"
        )
    check_spikes(later[0][0], steps)


def check_spikes(body: bytes, steps: int) -> None:
    """Find the spike of one step of every run in the curves that were sent."""
    for run in orjson.loads(body)["runs"]:
        at = spike_of(int(run["name"].removeprefix("run-")), steps)
        loss = run["series"]["loss"]
        if max(loss["y"]) < 50 or loss["x"][loss["y"].index(max(loss["y"]))] != at:
            raise SystemExit(f"the spike of {run['name']} at step {at} was not sent")


if __name__ == "__main__":
    main()
