"""Kill the training process at every call that a save makes durable or visible (R2).

    python benchmarks/faults_io/kill_points.py --by strace
    python benchmarks/faults_io/kill_points.py --by hook --count 20

A run that stands at step 2 of 4 is resumed: two saves, the best marked, old ones rotated, the final
weights written. Its training process is killed at the n-th call, for every n (or `--count` of
them, drawn by `--seed`), each time from the same start:

- by strace: as the system call is entered, through injection of SIGKILL (Linux, strace installed):
  fsync, fdatasync, rename, mkdir, symlink, unlink, rmdir and ftruncate in all their forms, also
  those of the Rust and C libraries;
- by hook: at Python's os.fsync, rename, replace, mkdir, symlink, unlink and rmdir, once before the
  call and once after it.

Each time no checkpoint that was whole may be lost, none may be damaged, and `tunebook resume` must
end in the weights and the history of a run nobody killed.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import toy
from kept import finish, newest, paused_run, put_back, whole_run
from report import arguments, reported, scratch
from safety import record

LENGTH: dict[str, dict[str, object]] = {
    "train": {"max_steps": 4},
    "evaluate": {"every": 2},
    "checkpoint": {"keep": 1},
}
PAUSED_AT = 2
CALLS = ("fsync", "rename", "replace", "mkdir", "symlink", "unlink", "rmdir")
SYSTEM_CALLS = (
    "fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,symlink,symlinkat,unlink,unlinkat,"
    "rmdir,ftruncate"
)


def hooked(when: Callable[[int, str, bool], None]) -> Callable[[], None]:
    """Make what is called in the training process: `when(n, call, after)` at every call."""

    def inside() -> None:
        number = 0

        def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal number
                number += 1
                mine = number
                when(mine, f"{name} {_shown(args)}", False)
                try:
                    return real(*args, **options)
                finally:  # a folder that is there already is an error, and a call all the same
                    when(mine, name, True)

            return call

        for name in CALLS:
            setattr(os, name, counting(name, getattr(os, name)))

    return inside


def _shown(args: tuple[Any, ...]) -> str:
    return " ".join(
        re.sub(r"\d{3,}", "N", str(arg)) for arg in args if isinstance(arg, (str, Path))
    )


def count_by_hook(book: Path, name: str) -> list[str]:
    """List the calls of one undisturbed attempt."""
    listed = book / "calls"

    def note(_number: int, call: str, after: bool) -> None:
        if not after:
            with open(listed, "a", encoding="utf-8") as file:
                file.write(call + "\n")

    listed.unlink(missing_ok=True)
    done = forked.run(book, "resume", name, inside=hooked(note))
    assert done.returncode == 0, done.said()
    return listed.read_text(encoding="utf-8").splitlines()


def kill_by_hook(book: Path, name: str, number: int, after: bool) -> None:
    """Kill the training process at one call."""

    def die(mine: int, _call: str, is_after: bool) -> None:
        if mine == number and is_after == after:
            os.kill(os.getpid(), signal.SIGKILL)

    died = forked.run(book, "resume", name, inside=hooked(die))
    assert died.returncode == 1, (number, died.said())
    assert "Traceback" not in died.said()


def traced(book: Path, name: str, *options: str) -> tuple[int, list[str]]:
    """Resume under strace; gives the exit code and the calls of the training process's thread."""

    def inside() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    log = book / "strace.log"
    command = forked.Command(book, ["resume", name], inside)
    trainer = None
    while trainer is None or "(stopped)" not in _status(trainer):
        assert command.poll() is None, command.said()
        trainer = command.trainer()
        time.sleep(0.005)
    tracer = subprocess.Popen(
        ["strace", "-f", "-y", "-s", "0", "-o", str(log), "-p", str(trainer), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while "TracerPid:\t0\n" in _status(trainer):
        assert tracer.poll() is None, "strace cannot attach"
        time.sleep(0.005)
    os.kill(trainer, signal.SIGCONT)
    code = command.wait()
    tracer.wait(timeout=60)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    mine = [line.split(None, 1)[1] for line in lines if line.startswith(f"{trainer} ")]
    return code, [line for line in mine if re.match(r"[a-z0-9]+\(", line)]


def kill_by_strace(book: Path, name: str, calls: list[str], number: int) -> None:
    """Kill the training process as it enters a call; strace counts each kind of call by itself."""
    kinds = [call.split("(")[0] for call in calls[:number]]
    when = f"{kinds[-1]}:signal=KILL:when={kinds.count(kinds[-1])}"
    code, _ = traced(book, name, "-e", f"trace={SYSTEM_CALLS}", "-e", f"inject={when}")
    assert code == 1, (calls[number - 1], code)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return ""


def main() -> int:
    """Kill at every call, or at so many of them."""
    parser = arguments(__doc__, 0, writes=True)
    parser.add_argument("--by", choices=("strace", "hook"), default="hook")
    parser.add_argument("--asynchronous", action="store_true", help="saves beside the steps (hook)")
    options = parser.parse_args()
    if options.by == "strace" and shutil.which("strace") is None:
        print("kill_points: strace is not installed; --by hook needs none", file=sys.stderr)
        return 2
    forked.prepare()
    with scratch() as folder, reported("kill_points", options) as counts:
        book = toy.make_book(folder)
        LENGTH["checkpoint"]["asynchronous"] = options.asynchronous
        whole_run(book, "whole", **LENGTH)
        aside = paused_run(book, "killed", PAUSED_AT, **LENGTH)
        put_back(book, aside)
        if options.by == "hook":
            calls = count_by_hook(book, "killed")
            points = [(n, after) for n in range(1, len(calls) + 1) for after in (False, True)]
        else:
            code, calls = traced(book, "killed", "-e", f"trace={SYSTEM_CALLS}")
            assert code == 0
            points = [(n, False) for n in range(1, len(calls) + 1)]
        kinds = Counter(re.split(r"[ (]", call)[0] for call in calls)
        print(f"{len(calls)} calls: {dict(kinds)}", flush=True)
        if options.count:
            points = random.Random(options.seed).sample(points, min(options.count, len(points)))
        for number, after in points:
            put_back(book, aside)
            if options.by == "hook":
                kill_by_hook(book, "killed", number, after)
            else:
                kill_by_strace(book, "killed", calls, number)
            kept = newest(book, "killed")
            assert kept >= PAUSED_AT, (number, calls[number - 1])
            counts["killed, an older good checkpoint there"] += 1
            counts["of these with a newer one whole already"] += kept > PAUSED_AT
            finish(book, "killed", "whole")
            counts["resumed to the same weights and history"] += 1
    promise = {
        "strace": "Killed at every system call of two saves, an older good checkpoint stands",
        "hook": "The same from Python, before and after each call",
    }[options.by]
    beside = ", saves beside the steps" if options.asynchronous else ""
    file = f"R2-{options.by}" + ("-asynchronous" if options.asynchronous else "")
    record(file, "R2", promise + beside, options, len(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
