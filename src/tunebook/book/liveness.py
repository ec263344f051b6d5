"""Who is training a run: one trainer per run, and what a dead one leaves behind."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from tunebook.book.atomic import storage_errors, write_atomically
from tunebook.book.events import Events, read_events
from tunebook.book.inside import read_inside
from tunebook.book.places import RunFolder
from tunebook.errors import BookError
from tunebook.records import State

ENDED = ("finished", "stopped")
"""States of a run that came to its end: nothing is left of it to train."""

BEAT_SECONDS = 5.0
SILENT_SECONDS = 60.0
"""A trainer on another host counts as dead when its heartbeat is older than this."""


class Lease:
    """The right to train a run; `beat` says now and then that its holder is alive."""

    def __init__(self, run: RunFolder):
        self._run = run
        self._last = -BEAT_SECONDS

    def beat(self) -> None:
        """Refresh the heartbeat, at most every five seconds."""
        now = time.monotonic()
        if now - self._last >= BEAT_SECONDS:
            self._last = now
            beat = {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "process": _identity(os.getpid()),
                "time": time.time(),
            }
            write_atomically(self._run.heartbeat_json, orjson.dumps(beat))


@contextmanager
def acquire_run(run: RunFolder, wait_seconds: float = 5.0) -> Iterator[Lease]:
    """Hold the run's lock; waits for a dying trainer, then BookError names the living one."""
    from filelock import FileLock, Timeout

    with storage_errors(f"lock the run {run.name}", run.path):
        run.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run.path / ".lock", timeout=wait_seconds)
        try:
            lock.acquire()
        except Timeout:
            raise BookError(_held(run)) from None
    try:
        lease = Lease(run)
        lease.beat()
        yield lease
    finally:
        # Whoever let go trains no more, even if its process lives on.
        run.heartbeat_json.unlink(missing_ok=True)
        lock.release()


def _held(run: RunFolder) -> str:
    beat = _read_heartbeat(run)
    who = f"process {beat['pid']} on host {beat['host']}" if beat else "another process"
    return f"run {run.name} is being trained by {who}; `tunebook stop {run.name}` ends it"


def current_state(run: RunFolder, events: Events | None = None) -> State:
    """Say what state a run is in; `running` without a living process is `paused`."""
    if not run.started():
        return "new"
    last = (events if events is not None else read_events(run)).last_state
    return live_state(run, last)


def live_state(run: RunFolder, recorded: State | None) -> State:
    """Correct a recorded state by whether its process lives.

    None is a started run without any state: it was interrupted before its first event.
    """
    if recorded is None or recorded == "running":
        return "running" if is_alive(run) else "paused"
    return recorded


def is_alive(run: RunFolder) -> bool:
    """Tell whether the process of the last heartbeat lives."""
    beat = _read_heartbeat(run)
    if beat is None:
        return False
    if beat["host"] != socket.gethostname():
        return bool(time.time() - beat["time"] <= SILENT_SECONDS)
    # A process id is used again sooner or later; its start tells the two apart.
    return bool(_identity(beat["pid"]) == beat["process"])


def trainer_here(run: RunFolder) -> int | None:
    """Give the id of the process of this host that trains a run."""
    beat = _read_heartbeat(run)
    return beat["pid"] if beat is not None and is_alive(run) else None


def _read_heartbeat(run: RunFolder) -> dict[str, Any] | None:
    try:
        beat = orjson.loads(read_inside(run.book, run.heartbeat_json))
    except (OSError, orjson.JSONDecodeError):
        return None
    expected = {"host": str, "pid": int, "process": str, "time": float}
    if isinstance(beat, dict) and all(isinstance(beat.get(k), t) for k, t in expected.items()):
        return beat
    return None


def _identity(pid: int) -> str | None:
    """Name a living process for as long as it lives; None when there is none, or a zombie."""
    if sys.platform == "linux":
        # Counted in ticks since this boot: the clock may jump, and with it every start time.
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        boot = ""
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if after_name[0] == "Z" else f"{boot} {after_name[19]}"
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return str(process.create_time())
    except psutil.Error:
        return None


def process_alive(pid: int) -> bool:
    """Tell whether a process of this host lives; a zombie does not."""
    return _identity(pid) is not None
