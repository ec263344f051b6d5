"""Eight writers, a server and an indexer on one book, any of them killed again and again (R10).

    python benchmarks/faults_io/eight.py --count 200 --seed 0

Each writer is a process that appends steps to a run of its own with the trainer's `EventWriter`,
lines to an evaluation of its own, and notes to a page that all share. It acknowledges a row, in a
file of its own outside of the book, only after the call that wrote it came back. An indexer
rebuilds the index without a pause, and `tunebook ui` is asked for pages. One of the ten is drawn,
killed with SIGKILL and started again, until so many died.

At the end every acknowledged row is there, once; no answer and no process said "locked"; no answer
was a 5xx; and the index that lived through it is the one that a rebuild gives.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "web"))

from report import arguments, reported, scratch
from safety import record

WRITERS, SHARED = 8, "run-0"


def write(book: Path, number: int, acknowledged: Path) -> None:
    """Append rows for ever; what is acknowledged is durable first."""
    import signal as signals

    from soak import step_record

    from tunebook.book.evaluations import open_log
    from tunebook.book.events import EventWriter, cut_torn_lines, next_attempt, read_events
    from tunebook.book.places import RunFolder
    from tunebook.workflows.note import write_note

    signals.signal(signals.SIGINT, signals.SIG_IGN)
    run = RunFolder(book, f"run-{number}")
    sys.stderr = (acknowledged.parent / f"said-{number}").open("a")
    cut_torn_lines(run)
    taken = [step.step for step in read_events(run).steps]
    step = max(taken, default=0)
    with (
        acknowledged.open("a") as told,
        EventWriter(run, next_attempt(run)) as events,
        open_log(run, "probe", "final", {"of": number}) as log,
    ):
        while True:
            step += 1
            events.write("step", step_record(step, 1.0 + step / 1000))
            told.write(f"step {step}\n")
            told.flush()
            if step % 5 == 0:
                line = {"item_id": f"q{step}", "item_hash": "h", "repeat": 0, "value": 1.0}
                if log.get(f"q{step}", "h", 0) is None:
                    log.add([line])
                told.write(f"line q{step}\n")
                told.flush()
            if step % 10 == 0:
                write_note(book, [SHARED], f"note {step} of writer {number} in {os.getpid()}")
                told.write(f"note {step} of writer {number} in {os.getpid()}\n")
                told.flush()
            time.sleep(0.02)


def index(book: Path, acknowledged: Path) -> None:
    """Rebuild and ask for ever."""
    from tunebook.cli.main import main

    os.chdir(book)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = (acknowledged.parent / "said-index").open("a")
    while True:
        main(["reindex"])
        main(["runs", "--json"])


def ask(book: Path, seconds: float, wrong: list[str], counts: Counter[str], port: int) -> None:
    """Ask for pages for a while."""
    from served import Client

    client, until = Client(port), time.monotonic() + seconds
    for path in ("/", f"/runs/{SHARED}", f"/notebook/{SHARED}", "/runs.json"):
        if time.monotonic() > until:
            return
        status, body, _ = client.get(path)
        counts["pages"] += 1
        if status >= 500 or b"locked" in body:
            wrong.append(f"{path} answered {status}: {body[-300:]!r}")


@contextlib.contextmanager
def page(book: Path) -> Iterator[tuple[int, int]]:
    """Run the server; gives port and process, whose death is no error."""
    import subprocess
    from urllib.parse import urlsplit

    from served import TOKEN

    with (book.parent / "said-server").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "tunebook", "ui", "--port", "0"],
            cwd=book, stdout=subprocess.PIPE, stderr=log, text=True,
            env={**os.environ, "TUNEBOOK_UI_TOKEN": TOKEN},
        )  # fmt: skip
        try:
            assert server.stdout is not None
            port = urlsplit(server.stdout.readline().strip()).port
            assert port is not None
            yield port, server.pid
        finally:
            server.kill()
            server.wait()


def kept(book: Path, told: Path) -> list[str]:
    """Look for every acknowledged row; gives what is lost, doubled, or torn."""
    from tunebook.book.evaluations import read_log
    from tunebook.book.events import read_events
    from tunebook.book.places import RunFolder

    wrong = []
    words = RunFolder(book, SHARED).notebook_md.read_text()
    for number in range(WRITERS):
        run = RunFolder(book, f"run-{number}")
        steps = Counter(step.step for step in read_events(run).steps)
        lines = Counter(line["item_id"] for f in run.evaluations.glob("*.jsonl")
                        for line in read_log(f))  # fmt: skip
        for row in (told / f"acknowledged-{number}").read_text().splitlines():
            kind, _, what = row.partition(" ")
            if kind == "step":
                n = steps[int(what)]
            else:
                n = lines[what] if kind == "line" else words.count(f"{row}\n")
            if n != 1:
                wrong.append(f"{run.name}: {row} is there {n} times")
    return wrong


def indexes_agree(book: Path) -> list[str]:
    """Hold the index that lived through all against a rebuilt one."""
    import contextlib as c
    import io
    import json

    from tunebook.cli.main import main

    def told() -> Any:
        with c.redirect_stdout(io.StringIO()) as out:
            assert main(["runs", "--json"]) == 0
        return json.loads(out.getvalue())

    os.chdir(book)
    lived = told()
    for path in (book / ".tunebook").glob("index.db*"):
        path.unlink()
    return [] if told() == lived else ["the rebuilt index differs"]


def main() -> int:
    """Kill so often as asked."""
    parser = arguments(__doc__, 200)
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    options = parser.parse_args()
    rng, wrong = random.Random(options.seed), []
    spawn = multiprocessing.get_context("fork")
    with scratch() as folder, reported("eight", options) as counts:
        from tunebook.book.places import RunFolder, create_book

        book = create_book(folder / "book")
        for number in range(WRITERS):
            run = RunFolder(book, f"run-{number}")
            run.path.mkdir()
            run.run_yaml.write_text(
                f"name: {run.name}\nmodel: tunebook/tiny\ndata: [{{path: sayings.txt}}]\n"
            )
        import soak  # noqa: F401  # what forks need is imported once

        import tunebook.cli.reindex
        import tunebook.cli.runs
        import tunebook.workflows.note  # noqa: F401

        def start(who: int) -> Any:
            target, name = (index, "index") if who == WRITERS else (write, str(who))
            args = (book, who, folder / f"acknowledged-{who}")
            process = spawn.Process(target=target, args=args[::2] if who == WRITERS else args)
            process.start()
            counts[f"started: {'the indexer' if name == 'index' else 'a writer'}"] += 1
            return process

        lives = [start(who) for who in range(WRITERS + 1)]
        killed = 0
        while killed < options.count:
            with page(book) as (port, server):
                for _ in range(min(20, options.count - killed)):
                    time.sleep(rng.uniform(0, 0.25))
                    who = rng.randrange(WRITERS + 1)
                    if lives[who].exitcode is not None:
                        wrong.append(f"{who} ended by itself with {lives[who].exitcode}")
                    os.kill(lives[who].pid, signal.SIGKILL)
                    lives[who].join()
                    lives[who] = start(who)
                    killed += 1
                    if rng.random() < 0.3:
                        ask(book, 2, wrong, counts, port)
                if killed < options.count:
                    os.kill(server, signal.SIGKILL)
                    counts["kills of the server"] += 1
                    killed += 1
        time.sleep(0.5)
        for process in lives:
            process.kill()
            process.join()
        counts["kills"] = killed
        counts["acknowledged rows"] = sum(
            len(p.read_text().splitlines()) for p in folder.glob("acknowledged-[0-7]")
        )
        wrong += kept(book, folder) + indexes_agree(book)
        for said in folder.glob("said-*"):
            text = said.read_text(errors="replace")
            if text.strip():
                wrong.append(f"{said.name}: {text[-600:]}")
        counts["lost, doubled, locked or told"] = len(wrong)
        for line in wrong[:20]:
            print(line, file=sys.stderr)
        os.chdir("/")
    record("R10", "R10", "Eight writers, the pages and an indexer share one book, and any of them "
           "may be killed: no acknowledged row is lost, nothing is locked, and the rebuilt index "
           "is the same", options, killed, len(wrong))  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
