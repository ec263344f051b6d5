"""Trials as processes of this machine: where there is room for one, and what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from tunebook.book.sweeps import SweepTrial
from tunebook.data.workers import cores
from tunebook.plan.devices import memory_here
from tunebook.workflows.launch import child_environment

SHARED_BY = 4
"""So many trials share one card at most, however small they are: they also share its time."""

_KEPT_FREE = 0.95
"""Of free memory, trials are planned into so much."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a trial was planned to take: bytes on each of so many devices."""

    n_bytes: int
    devices: int = 1


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial whose process has ended, with its exit code (negative: a signal) and last words."""

    trial: SweepTrial
    code: int
    words: str


class Workers(Protocol):
    """Whoever trains trials: processes of this machine, or a cluster."""

    def start(self, trial: SweepTrial, need: Need) -> bool:
        """Begin a trial; False where there is no room for it now."""

    def poll(self, seconds: float) -> list[Ended]:
        """Wait so long for trials to end, and give those that have."""

    def running(self) -> Sequence[SweepTrial]:
        """List the trials that were begun and have not ended."""

    def pause(self) -> None:
        """Ask every trial to save and pause."""

    def close(self) -> None:
        """End what still runs, at once."""


@dataclass(slots=True)
class Place:
    """A device that trials are put on: `number` is a card's, None the processor.

    `free` is what trials may take of its memory, None where that is not known.
    """

    number: int | None
    free: int | None
    most: int
    taken: dict[str, int] = field(default_factory=dict)

    def has_room(self, need: int, whole: bool) -> bool:
        """Tell whether a trial of so many bytes fits beside those that are there."""
        if not self.taken:
            return True  # alone it goes wherever the plan said that it fits
        if whole or len(self.taken) >= self.most:
            return False
        return self.free is not None and sum(self.taken.values()) + need <= self.free


def places_here(kind: str, workers: int | None) -> list[Place]:
    """Find the devices of this machine; `workers` is how many trials run at once in all.

    On a processor that is, unless stated, one for two cores: fewer threads than that waste less of
    each, and more processes wait for memory.
    """
    if kind == "cuda":
        cards = _cards()
        share = SHARED_BY if workers is None else max(1, -(-workers // max(len(cards), 1)))
        return [Place(n, int(free * _KEPT_FREE), share) for n, free in enumerate(cards)]
    most = workers or max(1, cores() // 2)
    free = memory_here()[1]
    return [Place(None, None if free is None else int(free * _KEPT_FREE), most)]


def _cards() -> list[int]:
    """Give the free bytes of each card that this process may use."""
    import torch

    torch.cuda.empty_cache()  # what planning held
    return [torch.cuda.mem_get_info(n)[0] for n in range(torch.cuda.device_count())]


class LocalWorkers:
    """Trials as processes of this machine, put where their planned memory fits."""

    def __init__(self, book: Path, places: Sequence[Place], workers: int | None) -> None:
        self._book = book
        self._places = list(places)
        self._most = workers
        self._processes: dict[str, tuple[SweepTrial, subprocess.Popen[bytes], IO[bytes]]] = {}

    def start(self, trial: SweepTrial, need: Need) -> bool:
        """Begin a trial; False where there is no room for it now."""
        if self._most is not None and len(self._processes) >= self._most:
            return False
        whole = need.devices > 1
        places = [one for one in self._places if one.has_room(need.n_bytes, whole)]
        # The emptiest first.
        places.sort(key=lambda one: sum(one.taken.values()))
        wanted = need.devices if self._places[0].number is not None else 1
        if len(places) < wanted or (whole and any(p.taken for p in places[:wanted])):
            return False
        said = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the process has ended)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunebook.workflows.trial", str(self._book), trial.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=child_environment() | self._environment(places[:wanted]),
            start_new_session=True,  # a terminal's Ctrl-C reaches the sweep only
        )
        for place in places[:wanted]:
            place.taken[trial.name] = need.n_bytes
        self._processes[trial.name] = (trial, process, said)
        return True

    def _environment(self, places: Sequence[Place]) -> dict[str, str]:
        numbers = [place.number for place in places if place.number is not None]
        if numbers:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            known = visible.split(",") if visible else [str(n) for n in range(max(numbers) + 1)]
            return {"CUDA_VISIBLE_DEVICES": ",".join(known[n] for n in numbers)}
        if "OMP_NUM_THREADS" in os.environ:
            return {}
        return {"OMP_NUM_THREADS": str(max(1, cores() // places[0].most))}

    def poll(self, seconds: float) -> list[Ended]:
        """Wait so long for trials to end, and give those that have."""
        if self._processes:
            first = next(iter(self._processes.values()))[1]
            with suppress(subprocess.TimeoutExpired):
                first.wait(seconds)
        ended = []
        for name, (trial, process, said) in list(self._processes.items()):
            if process.poll() is None:
                continue
            del self._processes[name]
            for place in self._places:
                place.taken.pop(name, None)
            ended.append(Ended(trial, process.returncode, last_words(said)))
            if process.stdin:
                process.stdin.close()
        return ended

    def running(self) -> Sequence[SweepTrial]:
        """List the trials that were begun and have not ended."""
        return [trial for trial, _, _ in self._processes.values()]

    def pause(self) -> None:
        """Ask every trial to save and pause."""
        for _, process, _ in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End what still runs, at once: each ends when the pipe to it closes."""
        for _, process, said in self._processes.values():
            if process.stdin:
                process.stdin.close()
            process.wait()
            said.close()
        self._processes.clear()


def last_words(said: IO[bytes]) -> str:
    """Give the last line of what a process said, and close the file it said it into."""
    said.seek(0)
    lines = said.read()[-4000:].decode(errors="replace").strip().splitlines()
    said.close()
    return lines[-1] if lines else ""
