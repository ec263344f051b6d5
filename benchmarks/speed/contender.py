"""A contender's process: trains one step whenever it is told to, and says how it went.

Started by `lockstep.py` as `python contender.py WORK.json '{"kind": ..., "options": {...}}'`. One
line of JSON a message. A turn lasts from one "step" to the report on it, and begins where the last
one ended: whatever a loop does between two steps falls into a turn of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from cases import Work


class Done(BaseException):
    """All steps that are wanted are taken."""


class Turns:
    """The contender's side of the line to the driver."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader, self._writer = reader, writer
        self._before = 0

    def model_comes(self) -> None:
        """Note how large the process is with all its libraries, before there is a model."""
        self._before = 0 if _cuda() else _memory("VmRSS")

    def ready(self, settings: dict[str, Any], versions: dict[str, str]) -> None:
        """Say that the model is loaded, with what it is trained, and wait for the first turn."""
        resets = _reset_peak()
        self._send(
            ready=True, settings=settings, versions=versions, before_bytes=self._before,
            peak_is_of_training=resets,
        )  # fmt: skip
        self._wait()

    def done(self, loss: float, target_tokens: int) -> None:
        """Report on a step, and wait for the next turn; raises Done when there is none."""
        self._send(loss=loss, target_tokens=target_tokens, peak_bytes=_peak())
        self._wait()

    def _send(self, **message: Any) -> None:
        self._writer.write(json.dumps(message) + "\n")
        self._writer.flush()

    def _wait(self) -> None:
        if self._reader.readline().strip() != "step":
            raise Done


def _memory(key: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    found = re.search(rf"^{key}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _cuda() -> Any:
    """Give torch's CUDA where there is a card; the driver hides it from a race on the CPU."""
    import torch

    return torch.cuda if torch.cuda.is_available() else None


def _peak() -> int:
    cuda = _cuda()
    if not cuda:
        return _memory("VmHWM")
    cuda.synchronize()  # or the end of the step would be timed as part of the next
    return int(cuda.max_memory_reserved())


def _reset_peak() -> bool:
    cuda = _cuda()
    if cuda:
        cuda.reset_peak_memory_stats()
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def serve(work: Work, kind: str, options: dict[str, Any], turns: Turns) -> None:
    """Train until the driver wants no more."""
    if kind == "tunebook":
        from own import train
    elif kind in ("hf", "trl"):
        from trainers import train
    elif kind == "litgpt":
        from lit import train
    else:
        from textbook import train
    with contextlib.suppress(Done):
        train(kind, work, options, turns)


def main() -> None:
    # Libraries write to stdout as they please; the line to the driver is another descriptor.
    reader, writer = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = json.loads(sys.argv[2])
    serve(Work.read(Path(sys.argv[1])), asked["kind"], asked["options"], Turns(reader, writer))
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
