"""Signals to a run in the middle of its steps: saved, paused, the right exit code (R8).

    python benchmarks/faults_io/signals.py --count 5 --seed 0

`--count` is how often each case is tried, at a random moment after a checkpoint of the attempt:
SIGTERM and SIGHUP to the launcher (143), SIGINT once (130, saved) and twice (130, at once),
SIGSTOP and SIGCONT to the training process (goes on to its end), and a reader of its output that
goes away (goes on to its end). After each, `tunebook resume` ends in the same weights and history.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import forked
import toy
from kept import finish, newest, paused_run, put_back, whole_run
from report import arguments, reported, scratch
from safety import record

LENGTH = {"train": {"max_steps": 30}, "evaluate": {"every": 10}, "checkpoint": {"keep": 2}}
PAUSING = {
    "SIGTERM": ((signal.SIGTERM,), 143),
    "SIGHUP": ((signal.SIGHUP,), 143),
    "SIGINT": ((signal.SIGINT,), 130),
    "SIGINT twice": ((signal.SIGINT, signal.SIGINT), 130),
}
CASES = (*PAUSING, "SIGSTOP and SIGCONT", "a closed output")


def check_signal(
    book: Path, aside: Path, whole: str, case: str, rng: random.Random, counts: Counter[str]
) -> None:
    """Send one case's signals to a resumed run and see how it ends."""
    from tunebook.book.liveness import current_state
    from tunebook.book.places import RunFolder

    name = aside.name
    run = RunFolder(book, name)
    put_back(book, aside)
    before = newest(book, name)
    command = forked.Command(book, ["resume", name], closed_output=case == "a closed output")
    while command.poll() is None and not (run.checkpoints / f"step-{before + 2}").exists():
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.05))
    trainer = command.trainer()
    assert command.poll() is None, (case, command.said())
    assert trainer is not None
    if case in PAUSING:
        numbers, code = PAUSING[case]
        for number in numbers:
            os.kill(command.pid, number)
            time.sleep(0.002)
        assert command.wait() == code, (case, command.returncode, command.said())
        assert current_state(run) == "paused"
        assert f"tunebook resume {name}" in command.said()
        if len(numbers) == 1:
            steps = newest(book, name)
            assert f"stopped after step {steps}" in command.said(), (case, steps, command.said())
    elif case == "SIGSTOP and SIGCONT":
        os.kill(trainer, signal.SIGSTOP)
        time.sleep(0.1)
        assert current_state(run) == "running"
        os.kill(trainer, signal.SIGCONT)
        assert command.wait() == 0, command.said()
    else:
        assert command.wait() in (0, 141), command.returncode
        assert current_state(run) == "finished"
    finish(book, name, whole)
    counts[f"{case}: as it should be, and the same weights in the end"] += 1


def main() -> int:
    """Send every signal so often as asked."""
    options = arguments(__doc__, 5, writes=True).parse_args()
    forked.prepare()
    rng = random.Random(options.seed)
    with scratch() as folder, reported("signals", options) as counts:
        book = toy.make_book(folder)
        whole_run(book, "whole", **LENGTH)
        aside = paused_run(book, "run", 6, **LENGTH)
        for _ in range(options.count):
            for case in CASES:
                check_signal(book, aside, "whole", case, rng, counts)
    promise = "Signals and a closed output save and pause, and the run ends in the same bits"
    record("R8", "R8", promise, options, options.count * len(CASES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
