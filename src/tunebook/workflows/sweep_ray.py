"""Trials as tasks of a Ray cluster, whose machines share the book's file system.

Ray places trials and tries them again when a worker or a machine dies; a trial goes on from its
last checkpoint, for its task only says `workflows.trial`. Whether one lives is read from its run's
own heartbeat: Ray has been seen to wait for ever on a cable that was cut.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tunebook
from tunebook.book.atomic import write_text
from tunebook.book.liveness import current_state
from tunebook.book.sweeps import SweepTrial
from tunebook.data.workers import connect, import_ray, look_for_cluster
from tunebook.errors import UsageError, first_line
from tunebook.workflows.launch import child_environment
from tunebook.workflows.sweep_queue import SHARED_BY, Ended, Need, last_words

RETRIES = 3
"""How often Ray itself begins a task anew whose worker or machine has died."""

SILENT_SECONDS = 300.0
"""A trial that was seen alive, and has had no heartbeat for so long, is begun elsewhere."""


def find_ray(address: str) -> Any:
    """Give the module; UsageError without it, or where nothing listens at the address."""
    try:
        ray = import_ray(address)
    except ImportError:
        raise UsageError(
            "a sweep on Ray needs ray; pip install 'tunebook[ray]', or leave --on out"
        ) from None
    look_for_cluster(address)
    return ray


class RayWorkers:
    """Trials as tasks of a cluster; `workers` of them at once, None: as many as it has cores."""

    def __init__(
        self, book: Path, address: str, workers: int | None, card_bytes: int | None = None
    ) -> None:
        """Join the cluster; UsageError without Ray, or where none answers.

        `card_bytes` is the memory of one card of it, None where trials run on processors.
        """
        self._ray = find_ray(address)
        self._book, self._card_bytes = book, card_bytes
        self._started = not self._ray.is_initialized()
        if self._started:
            # A machine that is reached as a client has another tunebook, or none.
            shipped = {"py_modules": [str(Path(tunebook.__file__).parent)]}
            remote = {"runtime_env": shipped} if address.startswith("ray://") else {}
            connect(self._ray, address, **remote)
        self._most = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self._tasks: dict[str, tuple[SweepTrial, Any]] = {}
        self._alive: dict[str, float] = {}

    def start(self, trial: SweepTrial, need: Need) -> bool:
        """Hand a trial to Ray; False where as many are there as may be at once."""
        if len(self._tasks) >= self._most:
            return False
        task = self._ray.remote(_trial_on_ray).options(
            max_retries=RETRIES, scheduling_strategy="SPREAD", **self._resources(need)
        )
        self._tasks[trial.name] = (trial, task.remote(str(self._book.resolve()), trial.name))
        return True

    def _resources(self, need: Need) -> dict[str, float]:
        if self._card_bytes is None:
            return {"num_cpus": 1, "memory": need.n_bytes}
        if need.devices > 1:
            return {"num_cpus": 1, "num_gpus": need.devices}
        share = max(need.n_bytes / self._card_bytes, 1 / SHARED_BY)
        return {"num_cpus": 1, "num_gpus": round(share, 2) if share <= 0.5 else 1}

    def poll(self, seconds: float) -> list[Ended]:
        """Wait so long for trials to end, and give those that have, or are silent for too long."""
        if not self._tasks:
            return []
        by_task = {task: name for name, (_, task) in self._tasks.items()}
        ready, _ = self._ray.wait(list(by_task), num_returns=1, timeout=seconds)
        ended = [self._take(by_task[task]) for task in ready]
        for name in [name for name in self._tasks if self._is_silent(name)]:
            trial, task = self._tasks.pop(name)
            del self._alive[name]
            with suppress(Exception):  # whatever Ray makes of it: the trial begins elsewhere
                self._ray.cancel(task, force=True)
            ended.append(Ended(trial, -9, f"no heartbeat for {SILENT_SECONDS:g} s"))
        return ended

    def _take(self, name: str) -> Ended:
        trial, task = self._tasks.pop(name)
        self._alive.pop(name, None)
        try:
            code, words = self._ray.get(task)
        except Exception as error:  # of Ray's many kinds: worker or machine died too often
            return Ended(trial, -9, first_line(error))
        return Ended(trial, code, words)

    def _is_silent(self, name: str) -> bool:
        """Tell whether a trial that lived has been without a heartbeat for long."""
        run = self._tasks[name][0].run(self._book)
        now = time.monotonic()
        if current_state(run) == "running":
            self._alive[name] = now
        return name in self._alive and now - self._alive[name] > SILENT_SECONDS

    def running(self) -> Sequence[SweepTrial]:
        """List the trials that were begun and have not ended."""
        return [trial for trial, _ in self._tasks.values()]

    def pause(self) -> None:
        """Ask every trial to save and pause, by the file that its trainer looks for."""
        for name, (trial, task) in list(self._tasks.items()):
            run = trial.run(self._book)
            if current_state(run) == "running":
                write_text(run.stop_requested, "")
            else:
                with suppress(Exception):
                    self._ray.cancel(task)
                del self._tasks[name]

    def close(self) -> None:
        """End what still runs, and leave the cluster."""
        for _, task in self._tasks.values():
            with suppress(Exception):
                self._ray.cancel(task, force=True)
        self._tasks.clear()
        if self._started:
            self._ray.shutdown()


def _trial_on_ray(book: str, name: str) -> tuple[int, str]:
    """Bring a trial to its end on the machine that this runs on; gives exit code and last words."""
    if not Path(book).is_dir():
        return 2, (
            f"{book} is not there on this machine; keep the book on a file system that all "
            "machines of the cluster share"
        )
    said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by last_words)
    # The pipe closes when this worker dies, and the trial with it.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tunebook.workflows.trial", book, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=said,
        env=child_environment(),
    )
    return process.wait(), last_words(said)
