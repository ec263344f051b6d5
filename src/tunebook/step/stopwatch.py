"""Seconds that a device worked, taken without waiting for it."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Runs from when it is made until `stop`.

    On CUDA, where work is only queued, two marks in the queue are compared, which costs nothing:
    `seconds` may be read once something else has waited for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._kind = device.type
        self._marks: list[torch.cuda.Event] = []
        self._began = self._ended = 0.0
        if self._kind == "cuda":
            self._mark()
        self._began = time.perf_counter()

    def stop(self) -> None:
        """Take the time."""
        self._ended = time.perf_counter()
        if self._kind == "cuda":
            self._mark()

    def _mark(self) -> None:
        mark = torch.cuda.Event(enable_timing=True)
        mark.record()
        self._marks.append(mark)

    @property
    def seconds(self) -> float | None:
        """The time between; None on a device that queues and is not CUDA."""
        if self._kind == "cuda":
            return float(self._marks[0].elapsed_time(self._marks[1])) / 1000
        return self._ended - self._began if self._kind == "cpu" else None
