"""A throw-away SQLite index, so that a list of runs need not read every event again.

The folders are the truth. An index that is missing, broken, locked or not writable costs time and
nothing else.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tunebook.book.codec import dump_json, revive
from tunebook.book.places import RunFolder, list_runs
from tunebook.records import RunSummary

if TYPE_CHECKING:
    from tunebook.book.events import Events
    from tunebook.book.step_totals import StepTotals
    from tunebook.book.summary import Measured

    Read = Callable[[RunFolder], tuple[Events, StepTotals] | None]

INDEX_VERSION = 6
"""Raised when a summary gains or changes a field; an index of another version is made anew."""

_LONG_BYTES = 1_000_000
_FILES = ("run.yaml", "resolved.yaml", "seal.json", "notebook.md")
_FOLDERS = ("checkpoints", "final")


def run_summaries(book: Path, read: Read | None = None) -> list[RunSummary]:
    """Summarize every run of a book by name, reading only those whose files changed.

    `read` reads the events of a run for a caller that has them at hand.
    """
    from tunebook.book.summary import outcome_words

    found = measure_all(book, read)
    live = {name: summary for name, (summary, _) in found.items()}
    return [
        replace(summary, outcome=outcome_words(measured, summary, live.get))
        for summary, measured in found.values()
    ]


def measure_all(book: Path, read: Read | None = None) -> dict[str, tuple[RunSummary, Measured]]:
    """Measure every run of a book, with its state of this moment but without its outcome."""
    from tunebook.book.summary import bring_to_life

    runs = {run.name: run for run in list_runs(book)}
    prints = {name: _fingerprint(run) for name, run in runs.items()}
    stored = _load(book)
    rows: dict[str, Measured] = {}
    changed: dict[str, Measured] = {}
    for name, run in runs.items():
        known = stored.get(name)
        if known is not None and known[0] == prints[name]:
            with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
                rows[name] = _decode(known[1])
                continue
        changed[name] = _measure(run, read)
        # Through the same text as a stored one, so that the two can never differ.
        rows[name] = _decode(_encode(changed[name]))
    if changed or stored.keys() - runs.keys():
        _store(book, {n: (prints[n], m) for n, m in changed.items()}, stored.keys() - runs.keys())
    return {name: (bring_to_life(runs[name], row), row) for name, row in rows.items()}


def rebuild(book: Path) -> int:
    """Make the index anew from the run folders; returns the number of runs."""
    _remove(_path(book))
    return len(run_summaries(book))


def _measure(run: RunFolder, read: Read | None) -> Measured:
    from tunebook.book.summary import Measured, measure
    from tunebook.errors import TunebookError

    try:
        return measure(run, (read or _read)(run))
    except (TunebookError, OSError):
        # One damaged folder must not hide the other runs; `tunebook show` says what is wrong.
        empty = RunSummary(run.name, "paused", None, None, None)
        return Measured(empty, None, run.started(), ())


def _read(run: RunFolder) -> tuple[Events, StepTotals] | None:
    """Read a long run by columns; those of a short one take less time than to import what does."""
    from tunebook.book.events import event_files

    if sum(path.stat().st_size for path in event_files(run)) < _LONG_BYTES:
        return None
    from tunebook.book.reader import RunReader

    return RunReader(run).look().totals()


def _fingerprint(run: RunFolder) -> str:
    import os

    parts: list[object] = []
    with contextlib.suppress(OSError), os.scandir(run.path) as entries:
        for entry in entries:
            if entry.name in _FILES:
                stat = entry.stat()
                parts.append((entry.name, stat.st_size, stat.st_mtime_ns))
            elif entry.name in _FOLDERS:
                parts.append((entry.name, 0, 0))
    for folder, ending in ((run.events, ""), (run.evaluations, ".json")):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            parts.append((folder.name, 0, 0))
            for entry in entries:
                if entry.name.endswith(ending):
                    stat = entry.stat()
                    parts.append((f"{folder.name}/{entry.name}", stat.st_size, stat.st_mtime_ns))
    return repr(sorted(parts, key=str))


def _encode(measured: Measured) -> str:
    return dump_json(measured).decode()


def _decode(text: str) -> Measured:
    from tunebook.book.summary import Measured

    whole = orjson.loads(text)
    fields = whole["summary"]
    numbers = {key: revive(fields[key]) for key in _NUMBERS}
    lists = {key: tuple(fields[key]) for key in _LISTS}
    summary = RunSummary(**(fields | numbers | lists))
    sparks = tuple(tuple(pair) for pair in whole["sparks"])
    predictions = tuple(whole["predictions"])
    return Measured(summary, whole["recorded"], whole["started"], predictions, sparks)


_LISTS = ("parents", "verdicts", "amber", "effects", "looked_for", "tags")
_NUMBERS = ("train_loss", "val_loss", "perplexity", "base_val_loss", "best_val_loss", "judge")


# --- the database -------------------------------------------------------------------------------


def _path(book: Path) -> Path:
    return book / ".tunebook" / "index.db"


@contextmanager
def _open(book: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(_path(book), timeout=2.0, isolation_level=None)
    try:
        # SQLite before 3.51.3 can corrupt a WAL that is reset while it is read.
        journal = "WAL" if sqlite3.sqlite_version_info >= (3, 51, 3) else "TRUNCATE"
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("PRAGMA synchronous=OFF")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != INDEX_VERSION:
            _create(connection)
        yield connection
    finally:
        connection.close()


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DROP TABLE IF EXISTS runs")
    connection.execute("CREATE TABLE runs (name TEXT PRIMARY KEY, fingerprint TEXT, summary TEXT)")
    connection.execute(f"PRAGMA user_version={INDEX_VERSION}")
    connection.execute("COMMIT")


def _load(book: Path) -> dict[str, tuple[str, str]]:
    if not _path(book).exists():
        return {}
    try:
        with _open(book) as connection:
            rows = connection.execute("SELECT name, fingerprint, summary FROM runs").fetchall()
            return {name: (fingerprint, summary) for name, fingerprint, summary in rows}
    except sqlite3.OperationalError:
        return {}  # locked or not readable: another process is at it
    except sqlite3.DatabaseError:
        _remove(_path(book))
        return {}


def _store(book: Path, changed: dict[str, tuple[str, Any]], gone: Any) -> None:
    rows = [(name, fingerprint, _encode(m)) for name, (fingerprint, m) in changed.items()]
    with contextlib.suppress(sqlite3.Error, OSError):
        _path(book).parent.mkdir(exist_ok=True)
        with _open(book) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", rows)
            connection.executemany("DELETE FROM runs WHERE name = ?", [(name,) for name in gone])
            connection.execute("COMMIT")


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
