"""Start the training process, follow its events, and pass signals on to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from tunebook.allocator import allocator_settings
from tunebook.book.atomic import free_bytes, storage_errors
from tunebook.book.events import EventTail, next_attempt, read_events
from tunebook.book.inside import refuse_linked_run
from tunebook.book.liveness import ENDED, current_state
from tunebook.book.places import RunFolder
from tunebook.book.writing import open_to_write
from tunebook.errors import RunEnded
from tunebook.recipe.load import read_resolved
from tunebook.recipe.tree import Recipe
from tunebook.recipe.yaml_text import read_text
from tunebook.regular import read_regular
from tunebook.workflows.hosts import HOSTS, Hosts
from tunebook.workflows.reporters import reporting

Watcher = Callable[[str, Mapping[str, Any]], None]
"""Called with the kind and content of every event, and with ("tick", {}) while waiting."""

# OpenMP threads that wait for each other by spinning take the core from whoever they wait for as
# soon as anything else runs on the machine: steps beside one busy process were 3 times slower.
SPIN_COUNT = "2000"
_POLL_SECONDS = 0.25
_AGAIN: Mapping[int, str] = {
    signal.SIGINT: "; Ctrl-C again stops at once",
    signal.SIGTERM: "; another SIGTERM, seconds later, stops at once",
}
_NO_ROOM_BYTES = 2**20


def train_in_child(
    run: RunFolder, watch: Watcher, hosts: Hosts | None = None, devices: int | None = None
) -> None:
    """Run the training process of a run until it ends, or one for each of several devices.

    Of several hosts it runs those of this one. `devices` of all hosts are those of the resolved run
    file, where they are not given.

    The process dies with this one. The first Ctrl-C, or a SIGTERM, lets it save and pause; a
    second one of the same stops it at once. Raises RunEnded with the exit code when the run did not
    finish, and BookError where it would be written, or deleted from, through a link.
    """
    refuse_linked_run(run)
    watch = _surviving(watch)
    tail = EventTail(run)
    tail.poll()  # what earlier attempts wrote is not news
    attempt = next_attempt(run)
    own_log = run.train_log if hosts is None else run.train_log_of(hosts.number)
    with (
        storage_errors(f"write {own_log}", run.path),
        open_to_write(run.book, own_log, "append") as log,
    ):
        said_before = log.tell()
        process = subprocess.Popen(
            _command(run, hosts, devices),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=child_environment() | ({HOSTS: hosts.words()} if hosts else {}),
            start_new_session=True,  # a terminal's Ctrl-C reaches this process only
        )
    # The events of a run on several hosts are the first one's.
    told = _recipe(run).report_to if hosts is None or hosts.number == 0 else []
    with reporting(run, told, attempt, child_environment(), watch) as look:
        with _passing_signals_to(process, watch) as interrupted:
            while process.poll() is None:
                _show(tail, watch)
                watch("tick", {})
                look()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECONDS)
        _show(tail, watch)
    if process.returncode == 0:
        if hosts is not None and (state := current_state(run)) not in ENDED:
            # The first host's trainer says so itself; beside it nobody has.
            code = 130 if interrupted() == signal.SIGINT else 143
            again = f"`tunebook resume {run.name}` on each of them goes on"
            raise RunEnded(f"run {run.name} {state} on all of its hosts; {again}", code)
        return
    said = read_regular(own_log)[said_before:].decode(errors="replace")
    raise RunEnded(*_how_it_ended(run, process.returncode, interrupted(), attempt, said))


def _command(run: RunFolder, hosts: Hosts | None, devices: int | None) -> list[str]:
    if devices is None:
        devices = _recipe(run).devices
    here = devices if hosts is None else devices // hosts.count
    module, more = ("trainer", []) if devices == 1 else ("ranks", [str(here)])
    return [sys.executable, "-P", "-m", f"tunebook.workflows.{module}", str(run.path), *more]


def _recipe(run: RunFolder) -> Recipe:
    return read_resolved(read_text(run.resolved_yaml))[0]


PATIENCE_SECONDS = 5.0
"""A SIGTERM so soon after one is the same request, and the trainer goes on saving."""


def child_environment() -> dict[str, str]:
    """Give the environment of a process that runs this code, with the allocator of training.

    Nothing that it starts imports from the working folder, which may be a stranger's book.
    """
    env = dict(os.environ) | allocator_settings() | {"PYTHONSAFEPATH": "1"}
    if sys.platform == "linux":
        env.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    source = str(Path(__file__).parents[2])
    # An empty part, as `PYTHONPATH=$PYTHONPATH:/x` leaves it, is the working folder.
    given = [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part]
    env["PYTHONPATH"] = os.pathsep.join([source, *map(os.path.abspath, given)])
    return env


def _surviving(watch: Watcher) -> Watcher:
    """Stop showing when the screen is gone (closed pipe or terminal); training goes on."""
    gone = False

    def show(kind: str, payload: Mapping[str, Any]) -> None:
        nonlocal gone
        if gone:
            return
        try:
            watch(kind, payload)
        except OSError:
            gone = True

    return show


def _show(tail: EventTail, watch: Watcher) -> None:
    for kind, payload in tail.poll():
        watch(kind, payload)


@contextmanager
def _passing_signals_to(
    process: subprocess.Popen[bytes], watch: Watcher
) -> Iterator[Callable[[], int | None]]:
    """Forward SIGINT, SIGTERM and SIGHUP; gives a function that tells the first one seen."""
    seen: list[int] = []
    at: dict[int, float] = {}

    def forward(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        first = at.setdefault(number, time.monotonic())
        if seen.count(number) > 1:
            # Who asks again wants no more waiting. A closed terminal may say so twice, and systemd
            # or Slurm tell the launcher what its own launcher passes on as well.
            patient = number == signal.SIGTERM and time.monotonic() - first < PATIENCE_SECONDS
            if number != signal.SIGHUP and not patient:
                process.kill()
            return
        # The signal first: a terminal that is gone takes no note.
        process.send_signal(number)
        watch("note", {"text": f"saving and pausing{_AGAIN.get(number, '')}"})

    # What is ignored stays ignored: nohup means that a closed terminal must not pause the run.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    try:
        before = {number: signal.signal(number, forward) for number in numbers}
    except ValueError:  # not the main thread: whoever owns it decides
        before = {}
    try:
        yield lambda: seen[0] if seen else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if process.stdin:
            process.stdin.close()


def _how_it_ended(
    run: RunFolder, code: int, interrupted: int | None, attempt: int, said: str
) -> tuple[str, int]:
    last = [state for state in read_events(run).states if state["attempt"] >= attempt][-1:]
    if code > 0 and last and last[0].get("reason") and last[0]["state"] != "running":
        return f"run {run.name} {last[0]['state']}: {last[0]['reason']}", code
    again = f"`tunebook resume {run.name}` goes on from the newest checkpoint"
    if interrupted == signal.SIGINT:
        return f"run {run.name} was stopped at once; {again}", 130
    if interrupted is not None and code < 0:
        return f"run {run.name} was stopped before it could save; {again}", 143
    if code == -signal.SIGKILL:
        return (
            f"run {run.name}: the training process was killed (out of memory, if nobody did it); "
            f"{again}",
            1,
        )
    if code > 0 and not last and free_bytes(run.path) < _NO_ROOM_BYTES:
        # Neither a state nor the whole of a sentence for the log could be written.
        return (
            f"run {run.name} paused: the disk is full: cannot write to {run.path}; free space and "
            f"`tunebook resume {run.name}`",
            1,
        )
    tail = said.strip().splitlines()
    reason = tail[-1] if tail else f"exit code {code}"
    if code > 0:
        return f"run {run.name}: {reason}", code
    return f"run {run.name}: the training process ended early ({reason}); {again}", 1
