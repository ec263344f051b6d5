"""Read the file that W&B writes offline: LevelDB's log format, a protocol buffer per record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK = 32768
_HEADER = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class Offline:
    """What one process wrote: the id, settings, rows of numbers, summary, and how it ended."""

    id: str = ""
    name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def read_offline(run: Path) -> list[Offline]:
    """Read what every process of a run wrote, in order of time."""
    return [_read(path) for path in sorted(run.glob("wandb/offline-run-*/run-*.wandb"))]


def _read(path: Path) -> Offline:
    from wandb.proto import wandb_internal_pb2

    found = Offline()
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.id, found.name = record.run.run_id, record.run.display_name or found.name
            found.config |= _items(record.run.config.update)
        elif kind == "history":
            found.rows.append(_items(record.history.item))
        elif kind == "summary":
            found.summary |= _items(record.summary.update)
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def _items(items: Any) -> dict[str, Any]:
    # JSON of W&B has NaN and Infinity as words without quotes.
    return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}


def _records(data: bytes) -> Iterator[bytes]:
    place, whole = _HEADER, b""
    while place + _HEADER <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:
            place += left
            continue
        size = int.from_bytes(data[place + 4 : place + 6], "little")
        kind = data[place + 6]
        part = data[place + _HEADER : place + _HEADER + size]
        place += _HEADER + size
        if kind in (_FULL, _FIRST):
            whole = b""
        whole += part
        if kind in (_FULL, _LAST):
            yield whole
