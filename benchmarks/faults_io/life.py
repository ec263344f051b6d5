"""Kill -9 over the whole life of a run: plan, data, training, evaluation, pages, release (R1).

    python benchmarks/faults_io/life.py --count 1000 --seed 0

A run of 8 steps that saves after every second one goes through its life, a command after the other.
Each command is killed at a moment drawn uniformly up to as long as it takes, again and again (four
times at most), with whatever processes it started; then it is called once more and must get done.

After every kill nothing that was whole is lost: checkpoints verify, every line of an evaluation
that was there is there, words of the author's own stay on the page, a released folder is whole or
not there. At the end weights, history and the evaluation's numbers are those of a run that nobody
killed, and `release --check` takes the released folder.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import forked
import psutil
import toy
from kept import history, newest, weights
from report import arguments, reported, scratch
from safety import record

LENGTH = {"train": {"max_steps": 8}, "evaluate": {"every": 4}, "checkpoint": {"every": 2}}
KILLS = 4
STAGES = ("plan", "data prepare", "train", "evaluate", "note", "notebook build", "release")


def command(stage: str, book: Path, name: str) -> tuple[str, ...]:
    """Say the words of a stage; training that has begun is resumed."""
    file, run = f"{name}.yaml", book / "runs" / name
    return {
        "plan": ("plan", file, "--no-probe"),
        "data prepare": ("data", "prepare", file, "--workers", "1"),
        "train": ("resume", name) if (run / "resolved.yaml").exists() else ("train", file),
        "evaluate": ("evaluate", name, "--device", "cpu"),
        "note": ("note", name, "a note of mine"),
        "notebook build": ("notebook", "build"),
        "release": ("release", name, f"out-{name}"),
    }[stage]


def is_done(stage: str, book: Path, name: str) -> bool:
    """Tell whether a stage that was killed had got done: another call would be refused."""
    from kept import is_finished

    run = book / "runs" / name
    if stage == "train":
        return (run / "final" / "MANIFEST.json").exists() and is_finished(book, name)
    return stage == "release" and (book / f"out-{name}").exists()


def lines_of(book: Path, name: str) -> dict[tuple[str, str], Any]:
    """Read every whole line of the run's evaluations."""
    from tunebook.book.evaluations import read_log

    return {
        (path.name, f"{line['item_id']} {line.get('repeat', 0)}"): line["value"]
        for path in (book / "runs" / name / "evaluations").glob("*.jsonl")
        for line in read_log(path)
    }


def kill_all(pid: int) -> None:
    """Kill a process and whatever it started."""
    try:
        family = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
    except (psutil.Error, ProcessLookupError):
        return
    for one in family:
        with_no_error(one)


def with_no_error(process: psutil.Process) -> None:
    """Kill what may be dead."""
    try:
        process.kill()
    except psutil.Error:
        return


def one_life(
    book: Path, name: str, took: dict[str, float], rng: random.Random, counts: Any, most: int
) -> int:
    """Kill a run all through its life; gives the kills."""
    kills, step, lines = 0, 0, {}
    for stage in STAGES:
        for attempt in range(KILLS + 1):
            if attempt and is_done(stage, book, name):
                break
            last = attempt == KILLS or kills >= most
            words = command(stage, book, name)
            started = forked.Command(book, words)
            ends = time.monotonic() + rng.uniform(0, took[stage])
            while not last and started.poll() is None and time.monotonic() < ends:
                time.sleep(0.002)
            if last or started.poll() is not None:
                code = started.wait(300)
                assert code == 0, (stage, code, started.said())
                break
            kill_all(started.pid)
            started.wait()
            kills += 1
            counts[f"kills: {stage}"] += 1
            assert "Traceback" not in started.said(), (stage, started.said())
            if (book / "runs" / name / "checkpoints").exists():
                now = newest(book, name)
                assert now >= step, f"{stage}: step {step} was saved, the newest is {now}"
                step = now
            now_lines = lines_of(book, name)
            assert lines.items() <= now_lines.items(), f"{stage}: a line of an evaluation is lost"
            lines = now_lines
    page = (book / "runs" / name / "notebook.md").read_text()
    assert "a note of mine" in page
    return kills


def main() -> int:
    """Kill so often as asked."""
    parser = arguments(__doc__, 1000)
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    options = parser.parse_args()
    forked.prepare()
    rng = random.Random(options.seed)
    kills = 0
    with scratch() as folder, reported("life", options) as counts:
        book = toy.make_book(folder)
        toy.write_run(book, "whole", **LENGTH)
        took: dict[str, float] = {}
        for stage in STAGES:
            began = time.monotonic()
            done = forked.Command(book, command(stage, book, "whole"))
            assert done.wait(300) == 0, (stage, done.said())
            took[stage] = time.monotonic() - began
        print({stage: round(seconds, 1) for stage, seconds in took.items()}, flush=True)
        number = 0
        while kills < options.count:
            name = f"life-{number}"
            number += 1
            toy.write_run(book, name, **LENGTH)
            shutil.rmtree(book / ".tunebook" / "cache", ignore_errors=True)
            kills += one_life(book, name, took, rng, counts, options.count - kills)
            assert weights(book, name) == weights(book, "whole"), f"{name}: the weights differ"
            assert history(book, name) == history(book, "whole"), f"{name}: the history differs"
            mine, other = lines_of(book, name), lines_of(book, "whole")
            assert sorted(map(str, mine.values())) == sorted(map(str, other.values())), name
            checked = forked.run(book, "release", "--check", f"out-{name}")
            assert checked.returncode == 0, checked.said()
            counts["lives, ended as the one that nobody killed"] += 1
            shutil.rmtree(book / "runs" / name)
            shutil.rmtree(book / f"out-{name}")
            print(f"{kills} kills, {number} lives", flush=True)
    record("R1-life", "R1", "Killed anywhere from its plan to its release, a run ends as one that "
           "nobody killed, and nothing that was whole is lost", options, kills)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
