"""The events of a run for whoever passes them on: each once, and none that was taken back.

A resumed run takes the steps after its checkpoint again. What an earlier attempt did there is left
out from the start, so that what is passed on is the run as its pages show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tunebook.book.codec import revive
from tunebook.book.events import attempt_limits, event_files, parse_line, row_order, row_shown
from tunebook.book.places import RunFolder

_ENVELOPE = ("kind", "seq", "attempt", "time")


@dataclass(frozen=True, slots=True)
class FedEvent:
    """An event as it was written, numbers that are not finite being numbers again.

    `time` is in seconds since 1970.
    """

    kind: str
    step: int | None
    time: float
    values: Mapping[str, Any]


class EventFeed:
    """Gives the events of a run up to now, once an attempt has begun, and then every new one."""

    def __init__(self, run: RunFolder, attempt: int) -> None:
        self._run = run
        self._attempt = attempt
        self._offsets: dict[Path, int] = {}
        self._waiting: list[dict[str, Any]] = []
        self._begun = False

    @property
    def begun(self) -> bool:
        """Tell whether the attempt has said from which step it goes on."""
        return self._begun

    def poll(self) -> list[FedEvent]:
        """Give what is new, in order; nothing before the attempt has begun.

        BookError where a whole line is not an event.
        """
        rows = [row for path in event_files(self._run) for row in self._new_rows(path)]
        if not self._begun:
            self._waiting += rows
            if not any(self._begins(row) for row in rows):
                return []
            rows, self._waiting, self._begun = self._waiting, [], True
            limits = attempt_limits(rows, {row["attempt"] for row in rows})
            rows = [row for row in rows if row_shown(row, limits)]
        rows.sort(key=row_order)
        return [_fed(row) for row in rows]

    def _begins(self, row: Mapping[str, Any]) -> bool:
        begins = row["kind"] == "state" and row.get("state") == "running"
        return begins and row["attempt"] >= self._attempt

    def _new_rows(self, path: Path) -> list[dict[str, Any]]:
        offset = self._offsets.get(path, 0)
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._offsets[path] = offset + whole
        lines = data[:whole].split(b"\n")
        return [parse_line(path, number, line) for number, line in enumerate(lines, 1) if line]


def _fed(row: Mapping[str, Any]) -> FedEvent:
    values = {key: revive(value) for key, value in row.items() if key not in _ENVELOPE}
    step = row.get("step")
    time = datetime.fromisoformat(row["time"]).timestamp()
    return FedEvent(row["kind"], step if isinstance(step, int) else None, time, values)
