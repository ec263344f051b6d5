"""A throw-away SQLite index, so that a list of runs need not read every event again.

The folders are the truth. An index that is missing, broken, locked or not writable costs time and
nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from tunebook.book.codec import dump_json, revive
from tunebook.book.index_checks import checks_of
from tunebook.book.index_file import load_rows, refuse_unwritten, remove_index, store_rows
from tunebook.book.inside import link_below
from tunebook.book.places import RunFolder, kept_steps, left_out_words, look_for_runs
from tunebook.errors import MALFORMED
from tunebook.records import RunSummary, State

if TYPE_CHECKING:
    from tunebook.book.events import Events
    from tunebook.book.step_totals import StepTotals
    from tunebook.book.summary import Measured

    Read = Callable[[RunFolder], tuple[Events, StepTotals]]

_TAIL_BYTES = 4096
_FILES = ("run.yaml", "resolved.yaml", "seal.json", "notebook.md")
_FOLDERS = ("checkpoints", "final")


def run_summaries(book: Path) -> list[RunSummary]:
    """Summarize every run of a book by name, reading only those whose files changed."""
    return [summary for summary, _ in run_rows(book).values()]


def run_rows(book: Path) -> dict[str, tuple[RunSummary, Measured]]:
    """Give every run of a book as `Index.runs` does, reading only those whose files changed."""
    index = Index(book)
    for name in index.refresh():
        index.read(name)
    index.keep()
    return index.runs()


class Index:
    """What the runs of a book come to, kept in memory as well for one that asks again and again.

    `read` reads the events of a run for a caller that has them at hand.
    """

    def __init__(self, book: Path, read: Read | None = None):
        self._book = book
        self._read = read
        self._found: dict[str, RunFolder] = {}
        self._left_out: list[str] = []
        self._prints: dict[str, str] = {}
        self._known: dict[str, tuple[str, Measured]] | None = None
        self._fresh: set[str] = set()
        self._lock = threading.Lock()
        self._lives: dict[str, _Life] = {}
        self._shown: dict[str, tuple[RunSummary, Measured]] = {}

    def refresh(self, *, anew: bool = False) -> list[str]:
        """Look which runs there are; gives the names of those that are to be read (again).

        `anew`: what the database says of them is not believed.
        """
        runs, left_out = look_for_runs(self._book)
        self._found = {run.name: run for run in runs}
        self._left_out = [left_out_words(run) for run in left_out]
        self._prints = {name: _fingerprint(run) for name, run in self._found.items()}
        if self._known is None:
            self._known = {}
            for name, (fingerprint, text) in ({} if anew else load_rows(self._book)).items():
                with contextlib.suppress(*MALFORMED):
                    self._known[name] = fingerprint, _decode(name, text)
        known = self._known
        return [n for n, p in self._prints.items() if n not in known or known[n][0] != p]

    @property
    def names(self) -> list[str]:
        """The runs that `refresh` found."""
        return list(self._found)

    @property
    def left_out(self) -> list[str]:
        """Say of each link that `refresh` found that it is no run of the book, and why."""
        return self._left_out

    def read(self, name: str) -> None:
        """Read one of the runs that `refresh` gave; other threads may ask meanwhile."""
        fingerprint, run = self._prints.get(name), self._found.get(name)
        if fingerprint is None or run is None:
            return  # removed since
        measured = _measure(run, self._read)
        with self._lock:
            assert self._known is not None
            self._known[name] = fingerprint, measured
            self._fresh.add(name)

    def keep(self, *, whatever: bool = False) -> str | None:
        """Write what was read to the database, and take away the runs that are gone.

        Gives None, or in words why it could not be written. `whatever`: also if nothing is new.
        """
        from tunebook.book.liveness import is_alive

        with self._lock:
            known, found = self._known or {}, self._found
            gone = known.keys() - found.keys()
            for name in gone:
                del known[name]
            fresh = {name: known[name] for name in self._fresh & known.keys()}
            self._fresh.clear()
        # What a living run comes to is out of date with its next step.
        fresh = {name: row for name, row in fresh.items() if not is_alive(found[name])}
        for name in gone:
            kept = kept_steps(self._book, name)
            with contextlib.suppress(OSError):
                if link_below(self._book, kept) is None:
                    kept.unlink(missing_ok=True)
        if not (fresh or gone or whatever):
            return None
        rows = {name: (fingerprint, _encode(m)) for name, (fingerprint, m) in fresh.items()}
        return store_rows(self._book, rows, gone)

    def runs(self) -> dict[str, tuple[RunSummary, Measured]]:
        """Give the state of this moment of every run, its numbers and its outcome, by name.

        Of a run that was never read, or cannot be, only the state is there; see `Measured.read`.
        As long as nothing is new, it is the same dict; of a run of which nothing is new, the same
        summary. Whoever is given it does not change it.
        """
        from tunebook.book.summary import outcome_words, state_of

        known, found, were = self._known or {}, self._found, self._lives
        rows = {n: known[n][1] if n in known else _glance(run) for n, run in found.items()}
        bare: dict[str, RunSummary] = {}
        for name, row in rows.items():
            state, was = state_of(found[name], row), were.get(name)
            same = was is not None and _alike(was.row, row) and was.bare.state == state
            bare[name] = was.bare if was and same else replace(row.summary, state=state)
        lives = {}
        for name, row in rows.items():
            was = were.get(name)
            if was and was.bare is bare[name] and _all_are(was.asked, bare):
                lives[name] = was
                continue
            # A prediction may be about another run: with that one it is to be scored again.
            others = _Others(bare)
            outcome = outcome_words(row, bare[name], others.find)
            lives[name] = _Life(row, bare[name], replace(bare[name], outcome=outcome), others.asked)
        if lives.keys() != were.keys() or any(lives[n] is not were[n] for n in lives):
            self._lives = lives
            self._shown = {name: (one.summary, one.row) for name, one in lives.items()}
        return self._shown

    def evaluated(self, kind: str) -> list[str]:
        """Name the runs that `refresh` found with a result of a kind of evaluation."""
        return [name for name, stamp in self._prints.items() if f" {kind}" in f" {stamp}"]


@dataclass(frozen=True, slots=True)
class _Life:
    """A run at a moment: without its outcome, with it, and the others that decided it."""

    row: Measured
    bare: RunSummary
    summary: RunSummary
    asked: dict[str, RunSummary | None]


class _Others:
    """Finds runs by name, and remembers which were asked for and what they were."""

    def __init__(self, runs: Mapping[str, RunSummary]):
        self._runs = runs
        self.asked: dict[str, RunSummary | None] = {}

    def find(self, name: str) -> RunSummary | None:
        return self.asked.setdefault(name, self._runs.get(name))


def _alike(one: Measured, other: Measured) -> bool:
    return one is other or one == other


def _all_are(asked: Mapping[str, RunSummary | None], bare: Mapping[str, RunSummary]) -> bool:
    return all(bare.get(name) is one for name, one in asked.items())


def rebuild(book: Path) -> int:
    """Make the index anew from the run folders; returns the number of runs.

    Raises StorageError where it cannot be written.
    """
    remove_index(book)
    index = Index(book)
    for name in index.refresh(anew=True):
        index.read(name)
    refuse_unwritten(book, index.keep(whatever=True))
    return len(index.names)


def _measure(run: RunFolder, read: Read | None) -> Measured:
    from tunebook.book.summary import measure

    try:
        # Through the same text as a stored one, so that the two can never differ.
        return _decode(run.name, _encode(measure(run, read(run) if read else None)))
    except Exception:
        # Whatever a folder holds, it must not hide the other runs; `tunebook show` and the run's
        # page say what is wrong with it.
        return _unread(run, None)


def _glance(run: RunFolder) -> Measured:
    """Say of a run only how it stands, by its last event."""
    from tunebook.book.events import event_files, parse_line, row_order
    from tunebook.errors import BookError

    rows, paths = [], list[Path]()
    with contextlib.suppress(OSError, BookError):
        paths = event_files(run)
    for path in paths:
        with contextlib.suppress(OSError, BookError), open(path, "rb") as file:
            file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
            rows.append(parse_line(path, 0, file.read().rstrip().rpartition(b"\n")[2]))
    recorded: State | None = None
    if rows:  # the last by its attempt: a clock that went back made the newest file the oldest
        row = max(rows, key=row_order)
        recorded = row["state"] if row["kind"] == "state" else "running"
    return _unread(run, recorded)


def _unread(run: RunFolder, recorded: State | None) -> Measured:
    from tunebook.book.summary import Measured

    empty = RunSummary(run.name, "paused", None, None, None)
    return Measured(empty, recorded, run.started(), (), read=False)


def _fingerprint(run: RunFolder) -> str:
    parts: list[str] = []
    with contextlib.suppress(OSError), os.scandir(run.path) as entries:
        for entry in entries:
            if entry.name in _FILES:
                parts.append(_stamp(entry))
            elif entry.name in _FOLDERS:
                parts.append(entry.name)
    for folder, ending in (("events", ".jsonl"), ("evaluations", ".json")):
        with contextlib.suppress(OSError), os.scandir(f"{run.path}/{folder}") as entries:
            parts.append(folder)
            parts += [_stamp(entry) for entry in entries if entry.name.endswith(ending)]
    parts.sort()
    return " ".join(parts)


def _stamp(entry: os.DirEntry[str]) -> str:
    stat = entry.stat()
    return f"{entry.name}:{stat.st_size}:{stat.st_mtime_ns}"


def _encode(measured: Measured) -> str:
    return dump_json(measured).decode()


def _decode(name: str, text: str) -> Measured:
    from tunebook.book.summary import Measured

    whole = orjson.loads(text)
    fields = whole["summary"]
    fields |= {key: revive(fields[key]) for key in _NUMBERS if isinstance(fields[key], str)}
    for kind, found in ((RunSummary, fields), (Measured, whole)):
        for key, fits in checks_of(kind):
            if not fits(found[key]):
                raise TypeError(f"{key} of run {name} is none")
    lists = {key: tuple(fields[key]) for key in _LISTS}
    if fields["name"] != name:
        raise ValueError(f"what is kept of run {name} is another's")
    # Every run has the same hundred keys, and mostly the same values: each run's own copies were
    # most of what it takes.
    config = {sys.intern(key): _shared(value) for key, value in fields["config"].items()}
    summary = RunSummary(**(fields | lists | {"config": config}))
    sparks = tuple(tuple(pair) for pair in whole["sparks"])
    predictions = tuple(whole["predictions"])
    return Measured(
        summary, whole["recorded"], whole["started"], predictions, sparks, whole["read"]
    )


@functools.lru_cache(2048, typed=True)
def _number(value: float) -> float:
    return value


def _shared(value: object) -> object:
    if isinstance(value, str):
        return sys.intern(value)
    # A zero and its negative are equal.
    return _number(value) if value and isinstance(value, int | float) else value


_LISTS = ("parents", "verdicts", "amber", "effects", "looked_for", "tags")
_NUMBERS = ("train_loss", "val_loss", "perplexity", "bits_per_byte", "base_val_loss",
            "best_val_loss", "judge")  # fmt: skip
