"""A file of losses, one line per row, that grows while rows are scored and is read to filter.

The first line is a header that says under which model, tokenizer and settings the rows were
scored; each further line is `{"id", "content", "loss", "target_tokens"}`, `content` being the hash
of what the row says in 16 hexadecimal digits and `loss` null where a row has no target token or its
loss is not finite. Lines are only ever added. A last line without its end was cut off by a kill and
counts as not written.
"""

from __future__ import annotations

import hashlib
import math
import os
import shlex
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import orjson
from numpy.typing import NDArray

from tunebook.errors import DataError, StorageError
from tunebook.recipe.home import expand_home

KIND = "tunebook scores"


@dataclass(frozen=True, slots=True)
class Score:
    """The mean loss of a row in nats per target token; None: no target token, or not finite."""

    id: str
    content: int
    loss: float | None
    target_tokens: int


@dataclass(frozen=True, slots=True)
class Scores:
    """All scores of a file, found by what a row says.

    `losses` are in the order of `contents`, which are sorted; `by_row` has the loss of every line
    and `target_tokens` their number.
    """

    path: str
    header: Mapping[str, object]
    content_hash: str
    contents: NDArray[np.uint64]
    losses: NDArray[np.float64]
    by_row: NDArray[np.float64]
    target_tokens: int

    def find(self, content: int) -> float | None:
        """Give the loss of a row, NaN when it has no target token, None when it was not scored."""
        place = int(np.searchsorted(self.contents, np.uint64(content)))
        if place == len(self.contents) or int(self.contents[place]) != content:
            return None
        return float(self.losses[place])


def read_scores(path: str) -> Scores:
    """Read a file of scores, 32 bytes of memory per row; DataError when it is none or damaged."""
    whole = expand_home(path)
    digest = hashlib.sha256()
    lines = _lines(whole)
    first = next(lines, None)
    header = _header(whole, first)
    digest.update(first or b"")
    contents, losses, target_tokens = array("Q"), array("d"), 0
    for number, line in enumerate(lines, start=2):
        digest.update(line)
        score = _parse(whole, number, line)
        contents.append(score.content)
        losses.append(np.nan if score.loss is None else score.loss)
        target_tokens += score.target_tokens
    keys = np.array(contents, dtype=np.uint64)
    # Rows that say the same have one score; the first one written counts.
    known, places = np.unique(keys, return_index=True)
    by_row = np.array(losses, dtype=np.float64)
    return Scores(path, header, digest.hexdigest(), known, by_row[places], by_row, target_tokens)


class ScoreWriter:
    """Adds scores to a file, new or begun before; use as a context.

    `written` is how many rows it holds. Raises DataError when it was begun with other settings:
    losses under two models do not compare.
    """

    def __init__(self, path: Path, header: Mapping[str, object]) -> None:
        self.path, self._header = path, {"kind": KIND, **header}
        self.written = 0
        self._stream: IO[bytes]

    def __enter__(self) -> ScoreWriter:
        try:
            if self.path.exists() and self.path.stat().st_size:
                self._go_on()
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self.path.open("wb")
                self._write(orjson.dumps(self._header) + b"\n")
        except OSError as error:
            raise self._storage_error(error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def add(self, scores: list[Score]) -> None:
        """Write scores and have them on the disk; StorageError when it is full."""
        lines = b"".join(
            orjson.dumps(
                {
                    "id": s.id,
                    "content": f"{s.content:016x}",
                    "loss": s.loss if s.loss is not None and math.isfinite(s.loss) else None,
                    "target_tokens": s.target_tokens,
                }
            )
            + b"\n"
            for s in scores
        )
        self.written += len(scores)
        try:
            self._write(lines)
        except OSError as error:
            raise self._storage_error(error) from None

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _go_on(self) -> None:
        lines = _lines(self.path)
        first = next(lines, None)
        found = _header(self.path, first)
        for key in sorted({*found, *self._header}):
            if found.get(key) != self._header.get(key):
                raise DataError(
                    f"{self.path} was begun with {_differs(key, found.get(key))}, and this is "
                    f"{_differs(key, self._header.get(key))}; say another --out, or delete that "
                    "file"
                )
        n_bytes = len(first or b"")
        for number, line in enumerate(lines, start=2):
            _parse(self.path, number, line)
            self.written += 1
            n_bytes += len(line)
        self._stream = self.path.open("r+b")
        self._stream.truncate(n_bytes)
        self._stream.seek(n_bytes)

    def _storage_error(self, error: OSError) -> StorageError:
        return StorageError(f"cannot write {self.path}: {error.strerror}; free space and go on")


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the whole lines of a file, a last one that was cut off left out."""
    try:
        with path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield line
    except OSError as error:
        raise DataError(
            f"the scores {path} cannot be read: {error.strerror}; make them with `tunebook data "
            f"score FILE --out {shlex.quote(str(path))}`"
        ) from None


def _differs(key: str, value: object) -> str:
    # Hashes are long, and their first digits tell two apart.
    long = isinstance(value, str) and len(value) == 64 and key in ("weights", "tokenizer", "source")
    return f"{key} {str(value)[:12] if long else value}"


def _header(path: Path, line: bytes | None) -> dict[str, object]:
    try:
        found = orjson.loads(line or b"")
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise DataError(
            f"{path} holds no scores of `tunebook data score`; name the file that it wrote with "
            "--out"
        )
    return found


def _parse(path: Path, number: int, line: bytes) -> Score:
    try:
        found = orjson.loads(line)
        loss = found["loss"]
        return Score(
            str(found["id"]),
            int(found["content"], 16),
            None if loss is None else float(loss),
            int(found["target_tokens"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise DataError(
            f"{path}: line {number} is no score; delete the file and score again"
        ) from None
