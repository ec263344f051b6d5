"""Let the clock jump in the middle of a run, between attempts, and while the book is read.

    python benchmarks/faults_io/clocks.py

The wall clock of a run's processes goes back by a day, or on by a year: in the middle of the steps,
or between an attempt that was killed and the next; everybody else keeps their time. Meanwhile the
run must be seen as running, and a second trainer must be refused. It has to end in the weights and
history of a run whose clock was left alone, its events in the order they were written, and no
command may show a time below nothing.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import forked
import toy
from kept import finish, paused_run, whole_run
from kill_points import _status
from report import arguments, reported, scratch

DAY, YEAR = 86_400.0, 365 * 86_400.0
JUMPS = {"back by a day": -DAY, "on by a year": YEAR}
LENGTH = {"train": {"max_steps": 12}, "evaluate": {"every": 4}, "checkpoint": {"keep": 3}}
AT_STEP = 5
TIME_BELOW_NOTHING = re.compile(r"-\d[\d.,]*\s?(ms|s|min|h|d|days?)\b|ETA -|\"seconds\": -")


def shift(seconds: Callable[[], float]) -> None:
    """Move this process's wall clock, as tunebook reads it; clocks that only go on stay."""
    real_time, real = time.time, datetime.datetime

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real.now(tz) + datetime.timedelta(seconds=seconds())

    time.time = lambda: real_time() + seconds()
    for name, module in list(sys.modules.items()):
        if name.startswith("tunebook") and getattr(module, "datetime", None) is real:
            module.datetime = Shifted  # type: ignore[attr-defined]


class Elsewhen(forked.Command):
    """A command, and all it starts, whose clock is wrong by so many seconds."""

    wrong_by = 0.0

    def _work(self, args: Sequence[str], inside: Callable[[], None]) -> int:
        import tunebook.book.evaluations
        import tunebook.book.events
        import tunebook.book.seal  # noqa: F401

        by = self.wrong_by
        shift(lambda: by)
        return super()._work(args, inside)


def in_the_middle(book: Path, name: str, jump: float) -> None:
    """Move the trainer's clock after a step; look at the run, and try to train it twice."""
    from tunebook.book.liveness import current_state
    from tunebook.book.places import RunFolder

    run = RunFolder(book, name)
    mark = run.checkpoints / f"step-{AT_STEP}"
    jumped = False

    def wrong_by() -> float:
        nonlocal jumped
        if not jumped and mark.exists():
            jumped = True
            os.kill(os.getpid(), signal.SIGSTOP)  # until others have looked at it
        return jump if jumped else 0.0

    path = toy.write_run(book, name, **LENGTH)
    command = forked.Command(book, ("train", str(path)), lambda: shift(wrong_by))
    trainer = None
    while trainer is None or "(stopped)" not in _status(trainer):
        assert command.poll() is None, command.said()
        trainer = command.trainer()
        time.sleep(0.01)
    try:
        assert current_state(run) == "running"
        _look(book, name, "running")
        Elsewhen.wrong_by = jump
        said = book.parent / "said-too"
        second = Elsewhen(book, ("resume", name), output=said)
        assert second.wait() == 2, second.said()
        assert "is being trained" in second.said(), second.said()
    finally:
        os.kill(trainer, signal.SIGCONT)
    assert command.wait() == 0, command.said()


def between_attempts(book: Path, name: str, jump: float) -> None:
    """Kill a run, and go on with it at another time; files keep the times they were written."""
    paused_run(book, name, AT_STEP, **LENGTH)
    shutil.rmtree(book / "aside")
    run = book / "runs" / name
    for path in (run / "events").iterdir():
        os.utime(path, (time.time() - jump, time.time() - jump))
    (book / ".tunebook" / "index.db").unlink(missing_ok=True)
    _look(book, name, "paused")
    Elsewhen.wrong_by = jump
    again = Elsewhen(book, ("resume", name))
    assert again.wait() == 0, again.said()
    assert not TIME_BELOW_NOTHING.search(again.said()), again.said()


def _look(book: Path, name: str, state: str) -> None:
    """Read a run as commands and the page do: its state, and no time below nothing."""
    from tunebook.book.index import Index

    index = Index(book)
    index.refresh()
    found = index.runs()[name][0].state
    assert found == state, (found, state)
    for args in (("runs",), ("show", name), ("runs", "--json")):
        shown = forked.Command(book, args, output=book.parent / "said-too")
        assert shown.wait() in (0, 1), shown.said()
        said = shown.said()
        assert "bug" not in said, said
        assert not TIME_BELOW_NOTHING.search(said), said
        assert args[0] != "runs" or state in said, said


def _in_order(book: Path, name: str) -> None:
    from tunebook.book.events import read_events
    from tunebook.book.places import RunFolder

    events = read_events(RunFolder(book, name))
    steps = [step.step for step in events.steps]
    assert steps == list(range(1, LENGTH["train"]["max_steps"] + 1)), steps
    assert events.last_state == "finished"
    assert events.active_seconds is None or events.active_seconds >= 0, events.active_seconds


def main() -> int:
    """Let it jump in each way."""
    options = arguments(__doc__, 1).parse_args()
    forked.prepare()
    with scratch() as folder, reported("clocks", options) as counts:
        book = toy.make_book(folder)
        whole_run(book, "whole", **LENGTH)
        for _ in range(options.count):
            for words, jump in JUMPS.items():
                for when in (in_the_middle, between_attempts):
                    name = f"jumped-{counts.total()}"
                    when(book, name, jump)
                    finish(book, name, "whole")
                    _in_order(book, name)
                    (book / ".tunebook" / "index.db").unlink(missing_ok=True)
                    _look(book, name, "finished")
                    assert forked.run(book, "notebook", "build").returncode == 0
                    counts[f"{when.__name__.replace('_', ' ')}, {words}: as if it had not"] += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
