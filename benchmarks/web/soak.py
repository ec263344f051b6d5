"""Eight trainers write, two note-takers write, four readers ask for pages: nothing may be lost.

    python benchmarks/web/soak.py [--seconds 600]

Each writer is a process that appends 20 steps a second to a run of its own with the trainer's own
`EventWriter`; two of them also add notes to one and the same page, as `tunebook note` does. The
readers ask the real `tunebook ui` for every page. At the end each run must have just the steps that
its writer says it wrote, by number and by the sum of their losses, and the page every note; every
answer must have been a 200.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from served import Client, machine, served, share

from tunebook.book.events import EventWriter, read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.book.reader import RunReader
from tunebook.records import ExampleLoss, StepRecord
from tunebook.workflows.note import write_note

WRITERS, NOTE_TAKERS, READERS = 8, 2, 4
STEPS_PER_SECOND = 20
SHARED = "run-0"
"""The run whose page the note-takers write to."""
PAGES = (
    "/", "/runs.json", "/runs/{run}", "/runs/{run}/live", "/curves.json?run={run}",
    "/curves.json?run={run}&since={step}", "/compare?run={run}&run=run-0", "/lineage", "/sweep",
    "/notebook", "/notebook/{run}", "/chess", "/side?run={run}&run=run-0",
)  # fmt: skip


def main() -> int:
    """Run writers and readers for a while and hold what is there against what was written."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=600)
    seconds = options.parse_args().seconds
    with tempfile.TemporaryDirectory() as scratch:
        book = create_book(Path(scratch) / "book")
        for number in range(WRITERS):
            run = RunFolder(book, f"run-{number}")
            run.path.mkdir()
            text = f"name: {run.name}\nmodel: tunebook/tiny\ndata: [{{path: sayings.txt}}]\n"
            run.run_yaml.write_text(text)
        print(f"{WRITERS} writers, {READERS} readers, {seconds:.0f} s; {machine()}", flush=True)
        until = time.time() + seconds
        with served(book) as port, multiprocessing.get_context("spawn").Pool(WRITERS) as pool:
            wrote = pool.starmap_async(write, [(book, n, until) for n in range(WRITERS)])
            answers: list[tuple[str, int, float]] = []
            wrong: list[str] = []
            threads = [
                threading.Thread(target=read, args=(port, n, until, answers, wrong))
                for n in range(READERS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            told = wrote.get(60)
            wrong += shown_by_server(port, told)
        wrong += kept_in_files(book, told)
    report(told, answers, wrong)
    return 1 if wrong else 0


def write(book: Path, number: int, until: float) -> dict[str, Any]:
    """Append steps, and notes, until it is time; gives what was written."""
    run, random_ = RunFolder(book, f"run-{number}"), random.Random(number)
    steps, total, notes = 0, 0.0, []
    with EventWriter(run, 1) as events:
        events.write("state", {"state": "running", "reason": "", "step": 0})
        while time.time() < until:
            steps += 1
            record = step_record(steps, random_.random() * 4)
            total += record.loss
            events.write("step", record)
            if number < NOTE_TAKERS and steps % STEPS_PER_SECOND == 1:
                notes.append(f"note {len(notes)} of writer {number}")
                write_note(book, [SHARED], notes[-1])
            time.sleep(1 / STEPS_PER_SECOND)
        events.write("state", {"state": "finished", "reason": "", "step": steps})
    return {"run": run.name, "steps": steps, "sum": total, "notes": notes}


def step_record(step: int, loss: float) -> StepRecord:
    """Make a step of sixteen rows, a kilobyte and a half as a line."""
    rows = tuple(ExampleLoss(f"sayings#{n}", loss * 10, 10) for n in range(16))
    return StepRecord(
        step, step / 100, loss, loss * 160, 160, 320, 0, 1e-4, 1.0, False, True, 1e-3, 1.0, rows,
        (20,) * 16, {"sayings": 320}, None, 0.05, 1 << 29,
    )  # fmt: skip


def read(
    port: int, number: int, until: float, answers: list[tuple[str, int, float]], wrong: list[str]
) -> None:
    """Ask for one page after the other, as somebody who looks at everything does."""
    client, random_, last = Client(port), random.Random(number), 0
    while time.time() < until:
        path = random_.choice(PAGES).format(run=f"run-{random_.randrange(WRITERS)}", step=last)
        status, body, seconds = client.get(path)
        answers.append((path, status, seconds))
        if status != 200 or b"database is locked" in body:
            said = re.findall(rb'class="mistake"[^>]*>([^<]+)<', body)
            wrong.append(f"{path} answered {status}: {said}")
        elif path.startswith("/curves") and "since" not in path:
            last = json.loads(body)["runs"][0]["last_step"] or 0
        time.sleep(0.05)


def shown_by_server(port: int, told: list[dict[str, Any]]) -> list[str]:
    """Compare the last step that the server shows with the last that was written."""
    client = Client(port)
    found = {
        one["run"]: json.loads(client.timed(f"/curves.json?run={one['run']}")[0])["runs"][0]
        for one in told
    }
    shown = {name: curves["last_step"] for name, curves in found.items()}
    return [
        f"the server shows {one['run']} at step {shown[one['run']]}, not {one['steps']}"
        for one in told
        if shown[one["run"]] != one["steps"]
    ]


def kept_in_files(book: Path, told: list[dict[str, Any]]) -> list[str]:
    """Read every run anew, as records and as columns, and look for every note."""
    wrong = []
    for one in told:
        run = RunFolder(book, one["run"])
        steps, look = read_events(run).steps, RunReader(run).look()
        for what, n, total in (
            ("records", len(steps), sum(step.loss for step in steps)),
            ("columns", len(look.steps), float(look.steps["loss"].sum())),
        ):
            if n != one["steps"] or abs(total - one["sum"]) > 1e-6:
                wrong.append(f"{run.name} as {what}: {n} steps, wrote {one['steps']}")
    page = RunFolder(book, SHARED).notebook_md.read_text()
    for text in (text for one in told for text in one["notes"]):
        if page.count(f"{text}\n") != 1:
            wrong.append(f"{text!r} is {page.count(text)} times on the page")
    return wrong


def report(
    told: list[dict[str, Any]], answers: list[tuple[str, int, float]], wrong: list[str]
) -> None:
    """Print counts that a reader can hold against the promise."""
    took = [seconds * 1000 for _, _, seconds in answers]
    print(f"{sum(one['steps'] for one in told):8}  steps written by {len(told)} processes")
    print(f"{sum(len(one['notes']) for one in told):8}  notes written to one page")
    print(f"{len(answers):8}  pages read, median {share(took, 0.5):.0f} ms,", end=" ")
    print(f"p99 {share(took, 0.99):.0f} ms, worst {max(took):.0f} ms")
    slowest = max(answers, key=lambda answer: answer[2])
    print(f"          the slowest: {slowest[0]}")
    print(f"{len(wrong):8}  lost, torn, locked or not answered")
    for line in wrong[:20]:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
