"""Contenders side by side: all alive at once, and one after the other takes step i, then i + 1.

So every step is a matched, interleaved repeat: whatever else the machine does meets all of them,
and ratios are taken per step. While one trains, the others wait for a line on a pipe.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases import Work

HERE = Path(__file__).resolve().parent
# Set by whoever starts this, these would be a setting of a contender that nobody has stated.
SETTINGS_OF_PROCESSES = (
    "GLIBC_TUNABLES", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME",
    "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "LD_PRELOAD",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
)  # fmt: skip
# Threads that have just worked spin for a moment before they sleep.
_SETTLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Contender:
    """Who trains, and with what: `kind` is tunebook, hf, trl, litgpt or textbook.

    Of `options`, `allocator` and `threads` are the environment its process starts with; the others
    are its own. tunebook always has its own environment, as its launcher gives it.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def environment(self, threads: int | None, device: str = "cpu") -> dict[str, str]:
        """Give what its process starts with."""
        from tunebook.workflows.launch import child_environment

        found = {k: v for k, v in os.environ.items() if k not in SETTINGS_OF_PROCESSES}
        wanted = self.options.get("threads", threads)
        if wanted:
            found["OMP_NUM_THREADS"] = str(wanted)
        if device == "cpu":
            found["CUDA_VISIBLE_DEVICES"] = ""
        found["TOKENIZERS_PARALLELISM"] = "false"
        ours = child_environment()
        found["PYTHONPATH"] = ours["PYTHONPATH"]
        if self.kind == "tunebook" or self.options.get("allocator"):
            allocator = ("GLIBC_TUNABLES", "GOMP_SPINCOUNT", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
            found |= {name: ours[name] for name in allocator if name in ours}
        return found


@dataclass(slots=True)
class Track:
    """What a contender did: per step seconds and loss; and its process."""

    contender: Contender
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    before_bytes: int = 0
    peak_is_of_training: bool = True


class ContenderFailed(Exception):
    """A contender ended before its last step."""


def race(
    work: Work,
    contenders: Sequence[Contender],
    folder: Path,
    *,
    threads: int | None = None,
    pythons: Mapping[str, str] | None = None,
    say: Any = lambda text: print(text, file=sys.stderr, flush=True),
) -> list[Track]:
    """Let contenders take all steps of a case in turn; ContenderFailed where one breaks off.

    Their order turns round from step to step. `pythons` names the interpreter of a kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started: list[_Process] = []
    try:
        for place, contender in enumerate(contenders):
            started.append(_start(work, contender, folder / str(place), threads, pythons or {}))
            if contender.kind == "tunebook":  # its plan looks at the machine
                started[-1].wait_until_ready()
        for process in started:
            process.wait_until_ready()
        tokens = [sum(row["target"][1:]) for rows in work.step_rows() for row in rows]
        for step in range(work.case.steps):
            wanted = sum(tokens[step * work.case.batch : (step + 1) * work.case.batch])
            turn = step % len(started)
            for process in started[turn:] + started[:turn]:
                time.sleep(_SETTLE_SECONDS)
                process.take_step(wanted)
            last = "; ".join(f"{p.track.contender.name} {p.track.seconds[-1]:.2f}" for p in started)
            say(f"step {step + 1}/{work.case.steps}, seconds: {last}")
    finally:
        for process in started:
            process.end()
    return [process.track for process in started]


class _Process:
    def __init__(self, track: Track, popen: subprocess.Popen[str], log: Path) -> None:
        self.track, self._popen, self._log = track, popen, log

    def wait_until_ready(self) -> None:
        if self.track.settings:
            return
        found = self._read()
        self.track.settings, self.track.versions = found["settings"], found["versions"]
        self.track.before_bytes = found["before_bytes"]
        self.track.peak_is_of_training = found["peak_is_of_training"]

    def take_step(self, target_tokens: int) -> None:
        assert self._popen.stdin is not None
        began = time.perf_counter()
        self._popen.stdin.write("step\n")
        self._popen.stdin.flush()
        found = self._read()
        self.track.seconds.append(time.perf_counter() - began)
        self.track.losses.append(found["loss"])
        self.track.peak_bytes = max(self.track.peak_bytes, found["peak_bytes"])
        if found["target_tokens"] != target_tokens:
            raise ContenderFailed(
                f"{self.track.contender.name} scored {found['target_tokens']} target tokens of "
                f"step {len(self.track.seconds)}, which has {target_tokens}"
            )

    def _read(self) -> dict[str, Any]:
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            self._popen.wait()
            said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ContenderFailed(
                f"{self.track.contender.name} ended early: {said[-1] if said else 'no word'}\n"
                + "\n".join(said[-15:])
            )
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.communicate()


def _start(
    work: Work,
    contender: Contender,
    folder: Path,
    threads: int | None,
    pythons: Mapping[str, str],
) -> _Process:
    folder.mkdir(parents=True, exist_ok=True)
    own = Work(work.model, work.rows_file, work.data, str(folder / "book"), work.case)
    own.write(folder / "work.json")
    options = {k: v for k, v in contender.options.items() if k not in ("allocator", "threads")}
    asked = json.dumps({"kind": contender.kind, "options": options})
    with (folder / "log").open("w") as log:
        popen = subprocess.Popen(
            [pythons.get(contender.kind, sys.executable), str(HERE / "contender.py"),
             str(folder / "work.json"), asked],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=contender.environment(threads, work.case.device),
        )  # fmt: skip
    return _Process(Track(contender), popen, folder / "log")
