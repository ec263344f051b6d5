"""The append-only record of a run: one file per process, one JSON line per event.

A line is written by a single system call, so a killed process can tear at most the last line of
its own file. Every line carries its attempt: a run that is resumed at step n hides what earlier
attempts did after step n.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import orjson

from tunebook.book.atomic import storage_errors
from tunebook.book.codec import revive, to_plain, to_record
from tunebook.book.inside import files_of, refuse_linked_run
from tunebook.book.places import RunFolder
from tunebook.book.step_totals import StepProfile
from tunebook.book.writing import cut_torn_line, make_folder, open_to_write
from tunebook.errors import BookError
from tunebook.records import Diagnosis, Sample, State, StepRecord, ValidationRecord, Verdict
from tunebook.regular import read_regular

Place = tuple[int, int, str, str]
"""Attempt, number, time and kind of an event."""

_ENVELOPE = ("kind", "seq", "attempt", "time")
_ENVELOPE_KEYS = frozenset(_ENVELOPE)
_MEASURED = ("step", "validation", "verdict", "verdicts")
LONG_BYTES = 1_000_000
_STATES = tuple(state for state in get_args(State) if state != "unknown")
_ALWAYS_SHOWN = ("state", "facts", "note")
_LOOKED_FOR_OF_OLD = ("non_finite", "skipped_batches", "weights_frozen_by_precision")


@dataclass(frozen=True, slots=True)
class Events:
    """What happened in a run, in order.

    A state is `{state, reason, step, attempt, time, ...}` and a checkpoint `{step, reason, attempt,
    time}`, as they were written.

    `facts` holds every fact, a later one replacing an earlier one of the same name.
    `active_seconds` is the time spent in steps and validations over all attempts, hidden ones
    included. `diagnosis` is the last look that detectors took at the log. `profiles` are of the
    steps that were looked at kernel by kernel, which took longer for it.
    """

    states: tuple[dict[str, Any], ...] = ()
    steps: tuple[StepRecord, ...] = ()
    validations: tuple[ValidationRecord, ...] = ()
    samples: tuple[Sample, ...] = ()
    diagnosis: Diagnosis = field(default_factory=lambda: Diagnosis(None, (), (), {}, final=False))
    checkpoints: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    profiles: tuple[StepProfile, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    active_seconds: float | None = None
    started: str | None = None

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What was found in the run so far, or in all of it."""
        return self.diagnosis.verdicts

    @property
    def last_state(self) -> State | None:
        """The state of the last state change."""
        state: State | None = self.states[-1].get("state") if self.states else None
        return state

    def fact(self, name: str) -> Any:
        """Look up a fact; None when it was never written."""
        return self.facts.get(name)


_RECORDS: dict[str, type] = {
    "step": StepRecord,
    "validation": ValidationRecord,
    "sample": Sample,
    "verdict": Verdict,  # of older releases: one event for each
    "verdicts": Diagnosis,
    "profile": StepProfile,
}
KINDS = ("state", *_RECORDS, "checkpoint", "facts", "note")


class EventWriter:
    """Appends events to this process's own file; BookError where that is behind a link.

    A payload key that the line itself uses is written with the kind in front: the `kind` of a
    verdict is stored as `verdict_kind`.
    """

    def __init__(self, run: RunFolder, attempt: int):
        refuse_linked_run(run)
        self._run = run
        self._attempt = attempt
        host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname()) or "host"
        self._path = run.events / f"{host}-{os.getpid()}.jsonl"
        with storage_errors(f"record events in {run.events}", run.path):
            make_folder(run.book, run.events)
            cut_torn_line(run.book, self._path)
            self._seq = _count_lines(self._path)
            with open_to_write(run.book, self._path, "append") as file:
                self._descriptor: int | None = os.dup(file.fileno())

    def write(self, kind: str, payload: object) -> None:
        """Append one event; a full disk is a StorageError and leaves no torn line behind."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind of event {kind!r}; one of {', '.join(KINDS)}")
        if self._descriptor is None:
            raise ValueError(f"the events of {self._run.name} are closed")
        line = {
            "kind": kind,
            "seq": self._seq,
            "attempt": self._attempt,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        for key, value in to_plain(payload).items():
            line[f"{kind}_{key}" if key in _ENVELOPE else key] = value
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        way_out = f"free space and `tunebook resume {self._run.name}`"
        with storage_errors(
            f"record events in {self._run.events}",
            self._run.events,
            needs_bytes=len(data),
            way_out=way_out,
        ):
            self._append(data)
        self._seq += 1

    def _append(self, data: bytes) -> None:
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Make the events durable and release the file; closing twice is fine."""
        if self._descriptor is None:
            return
        try:
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def event_files(run: RunFolder) -> list[Path]:
    """List the event files of a run by name; BookError where they lead out of the run."""
    return files_of(run, run.events, ".jsonl")


def is_long(run: RunFolder) -> bool:
    """Tell whether a run has so many steps that reading them as records takes seconds."""
    return sum(path.stat().st_size for path in event_files(run)) >= LONG_BYTES


def read_events(run: RunFolder, *, superseded: bool = False) -> Events:
    """Read all events of a run; a torn last line is ignored.

    With `superseded`, what earlier attempts did and later ones did again is shown as well.
    Raises BookError when a whole line is not an event.
    """
    rows = sorted(_read_rows(run), key=row_order)
    limits = attempt_limits(rows, {row["attempt"] for row in rows})
    shown = rows if superseded else [row for row in rows if row_shown(row, limits)]
    return events_of(run, shown, rows)


def events_of(
    run: RunFolder,
    shown: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    more_seconds: float = 0.0,
    known: dict[Place, Any] | None = None,
) -> Events:
    """Collect events from parsed lines in order; `rows` has also those that are not shown.

    `more_seconds` were spent in steps that are not among them. Records are taken from and added to
    `known`, by `row_place`. BookError where a line is no record.
    """
    known = {} if known is None else known
    facts: dict[str, Any] = {}
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for row in shown:
        kind = row["kind"]
        if kind == "facts":
            facts.update(_payload(row))
        elif kind in _RECORDS:
            at = row_place(row)
            if at not in known:
                known[at] = _record(run, kind, row)
            found[kind].append(known[at])
        elif kind == "note":
            found[kind].append(str(row.get("text", "")))
        elif kind in found:
            found[kind].append(_payload(row) | {"attempt": row["attempt"], "time": row["time"]})
    return Events(
        states=tuple(found["state"]),
        steps=tuple(found["step"]),
        validations=tuple(found["validation"]),
        samples=tuple(found["sample"]),
        diagnosis=_diagnosis(found["verdicts"], found["verdict"]),
        checkpoints=tuple(found["checkpoint"]),
        notes=tuple(found["note"]),
        profiles=tuple(found["profile"]),
        facts=facts,
        active_seconds=_active_seconds(rows, more_seconds),
        started=rows[0]["time"] if rows else None,
    )


def _diagnosis(looks: list[Diagnosis], verdicts: list[Verdict]) -> Diagnosis:
    """Take the last look; a run of an older release has single verdicts of three kinds."""
    if looks:
        return looks[-1]
    return Diagnosis(None, tuple(verdicts), _LOOKED_FOR_OF_OLD, {}, final=True)


def _read_rows(run: RunFolder) -> Iterator[dict[str, Any]]:
    for path in event_files(run):
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise BookError(
                f"the events of run {run.name} cannot be read ({error}); restore them"
            ) from error
        for number, line in enumerate(lines[:-1], start=1):
            if line:
                yield parse_line(path, number, line)


def row_order(row: Mapping[str, Any]) -> tuple[int, int, str]:
    """Order rows as they were written: an attempt has one writer, whose clock may be set back."""
    return row["attempt"], row["seq"], row["time"]


def row_place(row: Mapping[str, Any]) -> Place:
    """Tell an event from all others of a run.

    The number alone does not: a log may be put together of what two processes wrote as the same
    attempt, such as one that was copied elsewhere and trained on in both places.
    """
    return row["attempt"], row["seq"], row["time"], row["kind"]


def parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Read a line of an event file; BookError when it is not an event."""
    try:
        row = orjson.loads(line)
        if isinstance(row, dict) and row.keys() >= _ENVELOPE_KEYS and _is_placed(row):
            return row
    except orjson.JSONDecodeError:
        pass
    raise BookError(f"{path}:{number}: this line is not an event; restore the file or cut the line")


def _is_placed(row: Mapping[str, Any]) -> bool:
    return (
        type(row["attempt"]) is int
        and type(row["seq"]) is int
        and type(row["time"]) is str
        and type(row["kind"]) is str
        and (row["kind"] in _ALWAYS_SHOWN or isinstance(row.get("step"), int | float | None))
        and (row["kind"] != "state" or row.get("state") in _STATES)
    )


def _payload(row: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"{row['kind']}_"
    payload = {}
    for key, value in row.items():
        if key not in _ENVELOPE:
            bare = key.removeprefix(prefix)
            payload[bare if bare in _ENVELOPE else key] = value
    return payload


def _record(run: RunFolder, kind: str, row: Mapping[str, Any]) -> Any:
    try:
        return to_record(_RECORDS[kind], _payload(row))
    except (KeyError, TypeError, ValueError) as error:
        raise BookError(
            f"run {run.name}: event {row['seq']} of attempt {row['attempt']} is no {kind} event "
            f"({error}); restore the file in {run.events}"
        ) from error


def attempt_limits(
    rows: Iterable[Mapping[str, Any]], attempts: Iterable[int]
) -> dict[int, int | None]:
    """Find up to which step each attempt counts; None: to its end."""
    began: dict[int, int] = {}
    for row in rows:
        if row["kind"] == "state" and row.get("state") == "running":
            step = row.get("step")
            if isinstance(step, int):
                began[row["attempt"]] = step
    return {
        attempt: min((s for later, s in began.items() if later > attempt), default=None)
        for attempt in {*attempts, *began}
    }


def row_shown(row: Mapping[str, Any], limits: Mapping[int, int | None]) -> bool:
    """Tell whether no later attempt went back behind an event."""
    limit = limits.get(row["attempt"])
    if limit is None or row["kind"] in _ALWAYS_SHOWN:
        return True
    step = row.get("step")
    return step is None or bool(step <= limit)


def _active_seconds(rows: Sequence[Mapping[str, Any]], more: float) -> float | None:
    spent = [
        row["seconds"]
        for row in rows
        if row["kind"] in ("step", "validation") and isinstance(row.get("seconds"), (int, float))
    ]
    return float(sum(spent)) + more if spent or more else None


def next_attempt(run: RunFolder) -> int:
    """Number the next attempt: 1 for a run without events, else one more than the last."""
    last = 0
    for row in _read_rows(run):
        last = max(last, row["attempt"])
    return last + 1


def cut_torn_lines(run: RunFolder) -> None:
    """Remove what a killed process left of its last line; only the run's lock holder may."""
    for path in event_files(run):
        cut_torn_line(run.book, path)


def _count_lines(path: Path) -> int:
    return read_regular(path).count(b"\n") if path.exists() else 0


class EventTail:
    """Reads what is new in a run's events, for a live view; it never reads a line twice."""

    def __init__(self, run: RunFolder):
        self._run = run
        self._offsets: dict[Path, int] = {}

    def poll(self) -> list[tuple[str, dict[str, Any]]]:
        """Return kind and payload of each whole new line, in the order they were written.

        Numbers that are not finite are numbers again in steps, validations and verdicts.
        """
        rows = [row for path in event_files(self._run) for row in self._new_rows(path)]
        rows.sort(key=row_order)
        return [
            (kind, revive(_payload(row)) if kind in _MEASURED else _payload(row))
            for row in rows
            if (kind := row["kind"])
        ]

    def _new_rows(self, path: Path) -> list[dict[str, Any]]:
        offset = self._offsets.get(path, 0)
        with open(path, "rb") as file:
            # A torn line may have been cut away since: never stand beyond the end.
            offset = min(offset, file.seek(0, os.SEEK_END))
            file.seek(offset)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._offsets[path] = offset + whole
        return [orjson.loads(line) for line in data[:whole].split(b"\n") if line]
