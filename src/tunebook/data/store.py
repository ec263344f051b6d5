"""One source as memory-mapped token files, written aside, sealed with hashes, then renamed.

A folder `<key>/` holds `ids.bin` (uint16 or uint32), `target.bin` (a byte per token), `offsets.bin`
(int64), `rows.bin` (one record per example), `drops.jsonl` (rows left out, with the reason) and
`index.json` with the sha256 of each and of itself. What a run takes of it (split, sample, weight)
is decided when it is read, so changing a mixture tokenizes nothing again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from array import array
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tunebook.errors import StorageError
from tunebook.records import Drop

_FILES = ("ids.bin", "target.bin", "offsets.bin", "rows.bin", "drops.jsonl")
_INDEX = "index.json"
FORMAT_VERSION = 1

ROW_FIELDS = np.dtype(
    [
        ("row", "<i8"),
        ("file", "<i4"),
        ("window", "<i4"),
        ("content", "<u8"),
        ("document", "<u8"),
        ("cut", "<i8"),
        ("n_bytes", "<i8"),
    ]
)


class StoreWriter:
    """Writes one store; use as a context, then call `seal`. Raises StorageError on a full disk."""

    def __init__(self, cache_dir: Path, key: str, vocab_size: int) -> None:
        self._final = cache_dir / key
        self._aside = cache_dir / f".tmp-{key[:16]}-{os.getpid()}"
        self._dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
        self._offsets = array("q", [0])
        self._rows = bytearray()
        self._stack = ExitStack()

    def __enter__(self) -> StoreWriter:
        shutil.rmtree(self._aside, ignore_errors=True)
        try:
            self._aside.mkdir(parents=True)
            self._ids, self._target, self._drops = (
                self._stack.enter_context((self._aside / name).open("wb"))
                for name in ("ids.bin", "target.bin", "drops.jsonl")
            )
        except OSError as error:
            self._stack.close()
            raise _not_written(self._aside, error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stack.close()
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)
        if isinstance(error, OSError):
            raise _not_written(self._aside, error) from None

    def add(
        self,
        ids: NDArray[np.int64],
        target: NDArray[np.bool_],
        fields: tuple[int, int, int, int, int, int, int],
    ) -> None:
        """Add one example; `fields` in the order of ROW_FIELDS."""
        self._ids.write(ids.astype(self._dtype).tobytes())
        self._target.write(target.astype(np.uint8).tobytes())
        self._offsets.append(self._offsets[-1] + len(ids))
        self._rows += np.array([fields], dtype=ROW_FIELDS).tobytes()

    def drop(self, drop: Drop) -> None:
        """Write down a row that was left out."""
        self._drops.write(orjson.dumps({"id": drop.id, "reason": drop.reason}) + b"\n")

    def seal(self, facts: Mapping[str, object]) -> None:
        """Write the index with all hashes and put the store in its place."""
        self._stack.close()
        (self._aside / "offsets.bin").write_bytes(self._offsets.tobytes())
        (self._aside / "rows.bin").write_bytes(self._rows)
        index: dict[str, object] = {
            "format_version": FORMAT_VERSION,
            "dtype": self._dtype.str,
            "files": {name: _sha256(self._aside / name) for name in _FILES},
            "facts": dict(facts),
        }
        index["seal"] = _seal_of(index)
        (self._aside / _INDEX).write_bytes(orjson.dumps(index, option=orjson.OPT_INDENT_2))
        _put_in_place(self._aside, self._final)


class Store:
    """An opened store: arrays mapped from disk, and the facts that were sealed with them."""

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self.folder = folder
        self.facts: Mapping[str, Any] = index["facts"]
        self.content_hash = str(index["seal"])
        self.ids = _mapped(folder / "ids.bin", np.dtype(index["dtype"]))
        self.target = _mapped(folder / "target.bin", np.dtype(np.bool_))
        self.offsets = _mapped(folder / "offsets.bin", np.dtype("<i8"))
        self.rows = _mapped(folder / "rows.bin", ROW_FIELDS)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each example."""
        return np.diff(self.offsets)

    def target_counts(self) -> NDArray[np.int64]:
        """Count the target tokens of each example."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        # Counted in blocks of examples, so that a large store never sits in memory.
        blocks = []
        for first in range(0, len(self), 65536):
            offsets = self.offsets[first : first + 65537]
            part = self.target[offsets[0] : offsets[-1]]
            total = np.concatenate([[0], np.cumsum(part, dtype=np.int64)])
            blocks.append(np.diff(total[offsets - offsets[0]]))
        return np.concatenate(blocks)


def open_store(cache_dir: Path, key: str) -> tuple[Store | None, str | None]:
    """Open a store after checking every hash; else None and why not (None: there is none)."""
    folder = cache_dir / key
    if not folder.is_dir():
        return None, None
    try:
        index = orjson.loads((folder / _INDEX).read_bytes())
        if index["format_version"] != FORMAT_VERSION:
            return None, "it was written by another version"
        if _seal_of(index) != index["seal"]:
            return None, f"{_INDEX} was changed"
        for name in _FILES:
            if _sha256(folder / name) != index["files"][name]:
                return None, f"{name} was changed"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"it cannot be read ({error})"
    return Store(folder, index), None


def _put_in_place(aside: Path, final: Path) -> None:
    """Rename a finished store, unless another run finished a good one meanwhile."""
    if open_store(final.parent, final.name)[0] is not None:
        return
    shutil.rmtree(final, ignore_errors=True)
    try:
        os.replace(aside, final)
    except OSError:
        if open_store(final.parent, final.name)[0] is None:
            raise


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def _seal_of(index: Mapping[str, object]) -> str:
    rest = {key: value for key, value in index.items() if key != "seal"}
    return hashlib.sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _not_written(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"token files cannot be written to {path.parent}: {error.strerror or error}; free space "
        "there or make it writable"
    )
