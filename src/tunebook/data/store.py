"""One source as memory-mapped token files, sealed with hashes.

A folder `<key>/` holds per segment `ids-00000.bin` (uint16 or uint32) and `target-00000.bin` (a bit
per token), then `rows.bin` (one record per row, in file order), `drops.bin` (rows left out) and
`index.json` with the sha256 of each and of itself. What a run takes of it (split, sample, weight)
is decided when it is read, so changing a mixture tokenizes nothing again, and only the pages that
are read are ever in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tunebook.data.store_shape import ids_name, misfit_of_index, misfit_of_rows, target_name
from tunebook.regular import open_regular, read_regular

INDEX = "index.json"
FORMAT_VERSION = 3

ROW_FIELDS = np.dtype(
    [
        ("row", "<i8"),
        ("start", "<i8"),
        ("content", "<u8"),
        ("document", "<u8"),
        ("n_bytes", "<i8"),
        ("file", "<i4"),
        ("sub", "<i4"),
        ("window", "<i4"),
        ("length", "<i4"),
        ("n_target", "<i4"),
        ("cut", "<i4"),
        ("left_out", "<i4"),
    ]
)
"""A row: where it stands (file, row from 1, sub: its number among the examples of that row, window:
its number among the pieces of that example; both 0 when there is only one), hashes of what it and
its document say, its first token in the store, lengths in tokens, and turns left out of it."""

DROP_FIELDS = np.dtype([("row", "<i8"), ("file", "<i4"), ("sub", "<i4"), ("reason", "<i4")])


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was left out: its file, row and sub as in ROW_FIELDS, and why."""

    file: int
    row: int
    sub: int
    reason: str


class Store:
    """An opened store: arrays mapped from disk, and the facts that were sealed with them."""

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self.folder = folder
        self.facts: Mapping[str, Any] = index["facts"]
        self.content_hash = str(index["seal"])
        self.rows = mapped(folder / "rows.bin", ROW_FIELDS)
        self._dtype = np.dtype(index["dtype"])
        self._bounds = np.concatenate([[0], np.cumsum(index["segment_tokens"])]).astype(np.int64)
        self._segments: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each row."""
        return self.rows["length"].astype(np.int64)

    @property
    def n_tokens(self) -> int:
        """The number of tokens of all rows."""
        return int(self.rows["length"].sum(dtype=np.int64))

    def target_counts(self) -> NDArray[np.int64]:
        """Give the target tokens of each row."""
        return self.rows["n_target"].astype(np.int64)

    def tokens(self, number: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read the ids and target flags of a row."""
        start, length = int(self.rows["start"][number]), int(self.rows["length"][number])
        segment = int(np.searchsorted(self._bounds, start, side="right")) - 1
        ids, bits = self._open(segment)
        first = start - int(self._bounds[segment])
        whole = np.unpackbits(bits[first // 8 : (first + length + 7) // 8], bitorder="little")
        target = whole[first % 8 : first % 8 + length].view(np.bool_)
        return ids[first : first + length], target

    def segment_ids(self) -> Iterator[NDArray[Any]]:
        """Yield the ids of each segment, as they lie on the disk."""
        return (self._open(segment)[0] for segment in range(len(self._bounds) - 1))

    def _open(self, segment: int) -> tuple[NDArray[Any], NDArray[Any]]:
        if segment not in self._segments:
            self._segments[segment] = (
                mapped(self.folder / ids_name(segment), self._dtype),
                mapped(self.folder / target_name(segment), np.dtype(np.uint8)),
            )
        return self._segments[segment]

    def drop_records(self) -> NDArray[Any]:
        """Give the rows that were left out as one array of DROP_FIELDS, in file order."""
        return mapped(self.folder / "drops.bin", DROP_FIELDS)

    def drops(self) -> Iterator[Dropped]:
        """Yield the rows that were left out, in file order."""
        reasons = self.facts["reasons"]
        for one in self.drop_records():
            yield Dropped(
                int(one["file"]), int(one["row"]), int(one["sub"]), reasons[int(one["reason"])]
            )


def write_index(
    folder: Path,
    dtype: np.dtype[Any],
    segment_tokens: list[int],
    files: Mapping[str, str],
    facts: Mapping[str, object],
) -> None:
    """Seal a finished store; `files` are names and their sha256."""
    index: dict[str, object] = {
        "format_version": FORMAT_VERSION,
        "dtype": dtype.str,
        "segment_tokens": segment_tokens,
        "files": dict(sorted(files.items())),
        "facts": dict(facts),
    }
    index["seal"] = _seal_of(index)
    (folder / INDEX).write_bytes(orjson.dumps(index, option=orjson.OPT_INDENT_2))


def open_store(cache_dir: Path, key: str) -> tuple[Store | None, str | None]:
    """Open a store that fits its index, hashes included; else None and why not (None: no store)."""
    folder = cache_dir / key
    if not folder.is_dir():
        return None, None
    try:
        index = orjson.loads(read_regular(folder / INDEX))
        if index["format_version"] != FORMAT_VERSION:
            return None, "it was written by another version"
        if _seal_of(index) != index["seal"]:
            return None, f"{INDEX} was changed"
        if why := misfit_of_index(folder, index, (ROW_FIELDS.itemsize, DROP_FIELDS.itemsize)):
            return None, why
        names = list(index["files"])
        # Hashing lets other threads run: many gigabytes are checked as fast as they are read.
        with ThreadPoolExecutor(4) as pool:
            hashes = pool.map(sha256_of, [folder / name for name in names])
            for name, found in zip(names, hashes, strict=True):
                if found != index["files"][name]:
                    return None, f"{name} was changed"
        store = Store(folder, index)
        tokens, facts = index["segment_tokens"], store.facts
        why = misfit_of_rows(store.rows, store.drop_records(), tokens, facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"it cannot be read ({error})"
    return (None, why) if why else (store, None)


def mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Map a file of records; an empty one is an empty array."""
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=dtype)
    # As a plain array: a memmap makes each look at one row ten times as slow.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))


def sha256_of(path: Path) -> str:
    """Hash a file; NotReadable, an OSError, for what is none."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _seal_of(index: Mapping[str, object]) -> str:
    rest = {key: value for key, value in index.items() if key != "seal"}
    return hashlib.sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).hexdigest()
