"""What the events of a run say, read once: a second look reads only what was appended since.

Steps become columns of numbers, a record each being ten times slower. All else stays an event. The
numbers of a long run that is over are kept in the book's throw-away folder.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import orjson

from tunebook.book.events import (
    LONG_BYTES,
    Events,
    Place,
    attempt_limits,
    event_files,
    events_of,
    parse_line,
    row_order,
    row_place,
    row_shown,
)
from tunebook.book.inside import link_below
from tunebook.book.places import RunFolder, kept_steps
from tunebook.book.step_totals import (
    PHASES,
    Pace,
    StepTotals,
    Work,
    late_loss,
    late_steps,
    spark_shares,
)
from tunebook.errors import BookError
from tunebook.regular import open_regular

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBERS = (
    "step",
    "epoch",
    "loss",
    "loss_sum",
    "target_tokens",
    "tokens",
    "padding_tokens",
    "learning_rate",
    "grad_norm",
    "clipped",
    "applied",
    "update_ratio",
    "changed_fraction",
    "canary_loss",
    "seconds",
    "memory_bytes",
    "data_seconds",
    "pass_seconds",
    "canary_seconds",
)
"""The columns of a step that are kept: fields of `StepRecord`; NaN where unknown."""
_PLACE = ("attempt", "seq")
_COLUMNS = (*_PLACE, *NUMBERS, "examples")
_ALL_NUMBERS = operator.itemgetter(*_PLACE, *NUMBERS)
_PIECE_BYTES = 8_000_000
_VERSION = 5


@dataclass(frozen=True, slots=True)
class StepColumns:
    """Steps as columns of equal length, in the order they were taken; see `NUMBERS`.

    `examples` counts the rows of each step (NaN unknown).
    """

    columns: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.columns.shape[1])

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        row: NDArray[np.float64] = self.columns[_COLUMNS.index(name)]
        return row

    def totals(self) -> StepTotals:
        """Give what a summary says of the steps."""
        if not len(self):
            return StepTotals()
        step, loss = self["step"], self["loss"]
        late = slice(-late_steps(len(self)), None)
        sums = zip(
            self["loss_sum"][late].tolist(), self["target_tokens"][late].tolist(), strict=True
        )
        return StepTotals(
            int(step[0]),
            int(step[-1]),
            late_loss(loss[late].tolist(), [(a, b) if b == b else None for a, b in sums]),
            self._peak_memory(),
            self._sparks(loss[np.isfinite(loss)]),
        )

    def _sparks(self, known: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
        starts = [a for a, _ in spark_shares(len(known))]
        if not starts:
            return ()
        low, high = (f.reduceat(known, starts).tolist() for f in (np.minimum, np.maximum))
        return tuple(zip(low, high, strict=True))

    def work(self) -> Work:
        """Sum up what the steps took."""
        return Work(
            len(self),
            float(np.nansum(self["seconds"])),
            int(np.nansum(self["tokens"])),
            int(np.nansum(self["target_tokens"])),
            self._peak_memory(),
            int(np.nansum(self["clipped"])),
            int(np.isfinite(self["clipped"]).sum()),
            int((self["applied"] == 0).sum()),
        )

    def pace(self, without: Collection[int] = ()) -> Pace:
        """Sum up where the time of the steps went, `without` those that were profiled."""
        kept = self.where(np.isfinite(self["seconds"]) & ~np.isin(self["step"], list(without)))
        seconds, tokens, targets = (
            float(np.nansum(kept[name])) for name in ("seconds", "tokens", "target_tokens")
        )
        sums = {name: float(kept[name].sum()) for name in PHASES}
        phases = {name: value for name, value in sums.items() if math.isfinite(value)}
        return Pace(len(kept), seconds, tokens, targets, phases if len(kept) else {})

    def _peak_memory(self) -> int | None:
        memory = self["memory_bytes"]
        return int(np.nanmax(memory)) if np.isfinite(memory).any() else None

    def where(self, chosen: NDArray[np.bool_]) -> StepColumns:
        """Keep some steps."""
        return self if bool(chosen.all()) else StepColumns(self.columns[:, chosen])


@dataclass(frozen=True, slots=True)
class Look:
    """A run at one moment: `events` has all but the steps, which are `steps`.

    `superseded` are steps that a later attempt went back behind, which `events` and `steps` leave
    out. Of validations only the last has its documents. `version` differs whenever anything was
    added, `generation` when steps shown before are not shown any more.
    """

    version: int
    generation: str
    events: Events
    steps: StepColumns
    superseded: StepColumns

    def totals(self) -> tuple[Events, StepTotals]:
        """Give what a summary of the run is made of."""
        return self.events, self.steps.totals()


class RunReader:
    """Reads one run again and again; several threads may look at once.

    The columns of a long run that is over are kept in the book's throw-away folder.
    """

    def __init__(self, run: RunFolder):
        self.run = run
        self._lock = threading.Lock()
        self._version = self._restarts = 0
        self._forget()

    def _forget(self) -> None:
        # By name: inode, and the whole bytes and lines that were read.
        self._offsets: dict[str, tuple[int, int, int]] = {}
        self._rest: list[dict[str, Any]] = []
        self._all = np.empty((len(_COLUMNS), 0))
        self._records: dict[Place, Any] = {}
        # Validations of which the documents were let go.
        self._slim: set[Place] = set()
        self._look: Look | None = None

    def look(self) -> Look:
        """Read what is new; BookError when a file cannot be read or a whole line is no event."""
        with self._lock:
            try:
                return self._look_again()
            except (BookError, OSError) as error:
                # A later look must say so again, and not go on behind what it could not read.
                self._restarts += 1
                self._forget()
                if isinstance(error, BookError):
                    raise
                raise BookError(
                    f"the events of run {self.run.name} cannot be read ({error}); restore them"
                ) from error

    def _look_again(self) -> Look:
        files = [(path, path.stat()) for path in event_files(self.run)]
        known = {path.name: self._offsets.get(path.name) for path, _ in files}
        if (
            any(
                old is not None and (old[0] != stat.st_ino or old[1] > stat.st_size)
                for (_, stat), old in zip(files, known.values(), strict=True)
            )
            or self._offsets.keys() - known.keys()
        ):
            self._restarts += 1  # somebody restored or took away a file
            self._forget()
        if self._look is None:
            self._recall(files)
        before = self._version
        self._read(files)
        if self._version != before or self._look is None:
            self._look = self._see()
            if self._look is None:
                self._forget()
                self._read(files)
                self._look = self._see()
                assert self._look is not None
        if self._version != before:
            self._remember(files)
        return self._look

    def _read(self, files: list[tuple[Path, Any]]) -> None:
        for path, stat in files:
            for rows in self._new_rows(path, stat):
                self._take(rows)

    def _new_rows(self, path: Path, stat: Any) -> Iterator[list[dict[str, Any]]]:
        """Read whole new lines a piece at a time: as rows they take ten times the room."""
        _, offset, number = self._offsets.get(path.name, (0, 0, 0))
        if stat.st_size <= offset:
            return
        with open(path, "rb") as file:
            file.seek(offset)
            while lines := file.readlines(_PIECE_BYTES):
                torn = not lines[-1].endswith(b"\n")
                if torn:
                    lines.pop()  # it waits for its rest
                whole = [(n, line) for n, line in enumerate(lines, number + 1) if line != b"\n"]
                rows = [parse_line(path, n, line) for n, line in whole]
                offset, number = offset + sum(map(len, lines)), number + len(lines)
                self._offsets[path.name] = stat.st_ino, offset, number
                if rows:
                    yield rows
                if torn:
                    return  # the rest, written since, is no line of its own

    def _take(self, rows: list[dict[str, Any]]) -> None:
        self._version += 1
        rows.sort(key=row_order)
        steps = [row for row in rows if row["kind"] == "step"]
        self._rest += [row for row in rows if row["kind"] != "step"]
        self._rest.sort(key=row_order)
        if steps:
            every = np.concatenate([self._all, _columns_of(self.run, steps)], axis=1)
            order = np.lexsort((every[1], every[0]))
            self._all = every if bool((np.diff(order) > 0).all()) else every[:, order]

    def _see(self) -> Look | None:
        """Put together what was read; None where what was let go is needed again."""
        every = self._all
        limits = attempt_limits(self._rest, {int(a) for a in np.unique(every[0])})
        shown = np.ones(every.shape[1], dtype=bool)
        for attempt, limit in limits.items():
            if limit is not None:
                shown &= (every[0] != attempt) | (every[2] <= limit)
        rows = [row for row in self._rest if row_shown(row, limits)]
        if not self._let_go(rows):
            return None
        steps = StepColumns(every)
        events = events_of(self.run, rows, self._rest, _spent(every), self._records)
        generation = f"{self._restarts}.{len(limits)}"
        return Look(self._version, generation, events, steps.where(shown), steps.where(~shown))

    def _let_go(self, shown: list[dict[str, Any]]) -> bool:
        """Keep the documents of the last validation only: they are most of what is not a step.

        False where those of the last were let go, because a later attempt went back behind others.
        """
        validations = [row for row in self._rest if row["kind"] == "validation"]
        last = next((row for row in reversed(shown) if row["kind"] == "validation"), None)
        if last is not None and row_place(last) in self._slim:
            return False
        for row in validations:
            if row is not last and row.get("per_document"):
                at = row_place(row)
                row["per_document"] = []
                self._slim.add(at)
                self._records.pop(at, None)
        return True

    # --- the numbers of a run that is over ------------------------------------------------------

    @property
    def _kept(self) -> Path:
        return kept_steps(self.run.book, self.run.name)

    def _stamp(self, files: list[tuple[Path, Any]]) -> list[list[Any]]:
        return [[p.name, s.st_ino, s.st_size, s.st_mtime_ns] for p, s in files]

    def _recall(self, files: list[tuple[Path, Any]]) -> None:
        """Take what was kept, where the files are still just what it was made of."""
        try:
            with open_regular(self._kept) as file, np.load(file, allow_pickle=False) as kept:
                header = orjson.loads(kept["header"].tobytes())
                if header["version"] != _VERSION or header["files"] != self._stamp(files):
                    return
                self._all, self._rest = kept["columns"], header["rest"]
                self._slim = {(a, n, when, kind) for a, n, when, kind in header["slim"]}
        except (OSError, ValueError, KeyError, EOFError, TypeError, BadZipFile):
            return  # it is only a copy
        for name, (inode, size, lines) in header["read"].items():
            self._offsets[name] = inode, size, lines
        self._version += 1

    def _remember(self, files: list[tuple[Path, Any]]) -> None:
        from tunebook.book.liveness import is_alive

        whole = all(self._offsets.get(p.name, ())[:2] == (s.st_ino, s.st_size) for p, s in files)
        large = sum(s.st_size for _, s in files) >= LONG_BYTES
        if not (whole and large) or is_alive(self.run):
            return
        import io

        from tunebook.book.atomic import write_atomically
        from tunebook.errors import StorageError

        header = {
            "version": _VERSION,
            "files": self._stamp(files),
            "read": self._offsets,
            "rest": self._rest,
            "slim": sorted(self._slim),
        }
        out = io.BytesIO()
        packed = np.frombuffer(orjson.dumps(header), dtype=np.uint8)
        np.savez(out, columns=self._all, header=packed)
        if link_below(self.run.book, self._kept) is not None:
            return
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._kept, out.getvalue())
        except (OSError, StorageError):
            return  # a copy that cannot be kept costs time and nothing else


def _columns_of(run: RunFolder, steps: list[dict[str, Any]]) -> NDArray[np.float64]:
    try:
        columns = np.array(_table(steps), dtype=np.float64).T
        counted = [len(row["examples"]) or np.nan for row in steps]
        if not np.isfinite(columns[_COLUMNS.index("step")]).all():
            raise ValueError("a step has no number")
    except (KeyError, TypeError, ValueError) as error:
        raise BookError(
            f"run {run.name}: an event is not a step ({error}); restore the file in {run.events}"
        ) from error
    return np.concatenate([columns, [counted]], axis=0)


def _table(steps: list[dict[str, Any]]) -> list[Any]:
    try:
        return list(map(_ALL_NUMBERS, steps))
    except KeyError:  # of another release, or imported
        return [[row[k] for k in _PLACE] + [row.get(k) for k in NUMBERS] for row in steps]


def _spent(every: NDArray[np.float64]) -> float:
    return float(np.nansum(every[_COLUMNS.index("seconds")]))
