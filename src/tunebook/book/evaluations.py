"""What a run was asked after training, a line per question, and what it came to.

`evaluations/judge-final-3f9a01c2.jsonl` holds the settings in its first line and then a line per
item asked; the same name with `.json` holds the `Evaluation`. The name has the kind, the weights
and a hash of the settings: what was measured with others stays beside it, and an evaluation that
was broken off goes on where it stopped.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from tunebook.book.atomic import storage_errors, write_atomically
from tunebook.book.codec import dump_json, revive, to_plain, to_record
from tunebook.book.inside import refuse_linked_run, shown
from tunebook.book.places import RunFolder
from tunebook.book.writing import cut_torn_line, make_folder, open_to_write
from tunebook.errors import MALFORMED, BookError, Busy
from tunebook.records import Evaluation, ItemScore
from tunebook.regular import open_regular, read_regular

FORMAT_VERSION = 1

Row = Mapping[str, Any]
"""A line of a log: `item_id`, `item_hash`, `repeat`, and what its kind of evaluation adds."""


class EvaluationLog:
    """The lines of one evaluation of one set of weights; append-only.

    Lines are those written so far, also by processes that were killed. A newer line of an item
    stands for the older ones.
    """

    def __init__(self, path: Path, rows: Iterable[dict[str, Any]]) -> None:
        self.path = path
        self._rows = {_key(row): row for row in rows}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The line of each item, in the order they were asked."""
        return list(self._rows.values())

    def get(self, item_id: str, item_hash: str, repeat: int = 0) -> dict[str, Any] | None:
        """Give the line of an item; None when it was not asked yet."""
        return self._rows.get((item_id, item_hash, repeat))

    def has(self, item_id: str, item_hash: str, repeat: int = 0) -> bool:
        """Tell whether an item was asked already."""
        return (item_id, item_hash, repeat) in self._rows

    def add(self, rows: Sequence[Row]) -> None:
        """Append lines, durable when this returns; StorageError when the disk is full."""
        plain = [to_plain({"repeat": 0, **row}) for row in rows]
        known = {_key(row): _revived(row) for row in plain}  # without its keys none is written
        data = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in plain)
        with storage_errors(f"write {self.path}", self.path.parent, needs_bytes=len(data)):
            _append(self.path.parents[3], self.path, data)
        self._rows.update(known)


@contextmanager
def open_log(
    run: RunFolder, kind: str, subject: str, settings: Mapping[str, object]
) -> Iterator[EvaluationLog]:
    """Open the log of an evaluation to go on with it, alone.

    Everything that decides the answers belongs into `settings`. Raises Busy when another process
    has it open, BookError when a line is no JSON, or the folder is behind a link.
    """
    from filelock import FileLock, Timeout

    refuse_linked_run(run)

    path = log_path(run, kind, subject, settings)
    with storage_errors(f"write {path}", run.path):
        make_folder(run.book, run.evaluations)
        lock = FileLock(path.with_name(f".{path.stem}.lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise Busy(f"{path} is being written by another process; wait for it") from None
        try:
            cut_torn_line(run.book, path)
            if not path.exists() or not path.stat().st_size:
                head = {"format_version": FORMAT_VERSION, "kind": kind, "settings": settings}
                _append(run.book, path, dump_json(head))
        except BaseException:
            lock.release()
            raise
    try:
        yield EvaluationLog(path, read_log(path))
    finally:
        lock.release()


def log_path(run: RunFolder, kind: str, subject: str, settings: Mapping[str, object]) -> Path:
    """Name the log of an evaluation, which need not be there yet."""
    return run.evaluations / f"{kind}-{subject}-{settings_hash(settings)}.jsonl"


def settings_hash(settings: Mapping[str, object]) -> str:
    """Give eight digits that tell settings from others."""
    text = orjson.dumps(to_plain(settings), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:8]


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the newest line of each item of a log; a torn last line is passed over.

    Raises BookError for a line that is no JSON object.
    """
    data = read_regular(path)
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n")[1:-1], start=2):
        try:
            row = orjson.loads(line)
            key = _key(row)
            rows[key] = _revived(row)
        except MALFORMED:
            raise BookError(
                f"{path}:{number}: this line is not an item; restore the file or cut the line"
            ) from None
    return list(rows.values())


def _revived(row: dict[str, Any]) -> dict[str, Any]:
    # Only scores: an answer may be the word that JSON writes for a number it does not have.
    return row | {key: revive(row[key]) for key in ("value", "n_units") if key in row}


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings in the first line of a log; BookError when it has none."""
    try:
        with open_regular(path) as file:
            head = orjson.loads(file.readline())
        return dict(head["settings"])
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise BookError(
            f"{path} does not say with which settings it was made; restore it"
        ) from None


def scores_of(rows: Iterable[Row], run: str) -> list[ItemScore]:
    """Take the score of each line that has one; `value` null is a missing score."""
    return [to_record(ItemScore, {"run": run, **row}) for row in rows if "value" in row]


def write_result(run: RunFolder, log: Path, evaluation: Evaluation) -> Evaluation:
    """Write down what an evaluation came to, beside its log.

    One that was compared with nothing this time keeps the comparison of an earlier time: the
    weights and the items are the same.
    """
    if evaluation.comparison is None:
        before = [one for one in read_results(run, evaluation.kind) if one.log == log.name]
        if before and before[0].examples_hash == evaluation.examples_hash:
            evaluation = replace(
                evaluation, against=before[0].against, comparison=before[0].comparison
            )
    refuse_linked_run(run)
    done = replace(
        evaluation,
        log=log.name,
        finished=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
    write_atomically(run.evaluations / f"{log.stem}.json", dump_json(done, indent=True))
    return done


def read_results(run: RunFolder, kind: str | None = None) -> list[Evaluation]:
    """Read what the evaluations of a run came to, the newest last; broken files are left out."""
    found = []
    for path in run.evaluations.glob(f"{kind or '*'}-*.json"):
        try:
            stat = shown(run.book, path).stat()
            found.append(_read_result(path, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except (OSError, *MALFORMED):
            continue
    return sorted(found, key=lambda one: (one.finished, one.log))


@functools.lru_cache(maxsize=256)
def _read_result(path: Path, *stamp: int) -> Evaluation:
    """Read a result once for as long as its file stays the same; a server asks for it all day."""
    found = to_record(Evaluation, orjson.loads(read_regular(path)))
    if not all(isinstance(x, str) for x in (found.kind, found.subject, found.log, found.finished)):
        raise TypeError("kind, subject, log and finished are texts")
    return found


def _key(row: Row) -> tuple[str, str, int]:
    return row["item_id"], row["item_hash"], row["repeat"]


def _append(book: Path, path: Path, data: bytes) -> None:
    with open_to_write(book, path, "append") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
