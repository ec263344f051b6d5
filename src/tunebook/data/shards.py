"""Examples of one or more stores, by number: what is trained on, or what is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunebook.data.store import Store
from tunebook.records import Tokens


@dataclass(frozen=True, slots=True)
class Part:
    """Some examples of a store, by their numbers in it, under the name of their source."""

    name: str
    store: Store
    numbers: NDArray[np.int64]


def row_id(store: Store, name: str, file: int, row: int, sub: int) -> str:
    """Write the id of a row, as `name#12`, `name/file#12` or `name#12.3` for its third example."""
    labels: Sequence[str] = store.facts["labels"]
    where = name if len(labels) == 1 else f"{name}/{labels[file]}"
    return f"{where}#{row}.{sub}" if sub else f"{where}#{row}"


def _example_id(part: Part, row: Any) -> str:
    name = row_id(part.store, part.name, int(row["file"]), int(row["row"]), int(row["sub"]))
    return f"{name}/{row['window']}" if row["window"] else name


class Shards:
    """A sequence of examples read from disk one at a time."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part.numbers) for part in self.parts)])
        self.name = self.parts[0].name if len(self.parts) == 1 else "validation"

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _find(self, i: int) -> tuple[Part, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        which = int(np.searchsorted(self._starts, i, side="right")) - 1
        part = self.parts[which]
        return part, int(part.numbers[i - self._starts[which]])

    def only(self, numbers: Sequence[int]) -> Shards:
        """Give the examples of some numbers, in ascending order."""
        chosen = np.zeros(len(self), dtype=bool)
        chosen[list(numbers)] = True
        bounds = zip(self._starts[:-1], self._starts[1:], strict=True)
        return Shards(
            [
                Part(part.name, part.store, part.numbers[chosen[start:stop]])
                for part, (start, stop) in zip(self.parts, bounds, strict=True)
            ]
        )

    def source_of(self, i: int) -> str:
        """Give the name of the source that example i is from."""
        return self._find(i)[0].name

    def place_of(self, i: int) -> tuple[str, tuple[int, int, int]]:
        """Give the source of example i, and its file, row and sub there: see `ROW_FIELDS`."""
        part, number = self._find(i)
        row = part.store.rows[number]
        return part.name, (int(row["file"]), int(row["row"]), int(row["sub"]))

    def target_count_of(self, i: int) -> tuple[str, int]:
        """Give the id of example i and how many target tokens it has, reading none of them."""
        part, number = self._find(i)
        row = part.store.rows[number]
        return _example_id(part, row), int(row["n_target"])

    def example(self, i: int) -> Tokens:
        """Read example i."""
        part, number = self._find(i)
        store, row = part.store, part.store.rows[number]
        ids, target = store.tokens(number)
        labels: Sequence[str] = store.facts["labels"]
        whole_file = store.facts["by_file"][row["file"]]
        return Tokens(
            id=_example_id(part, row),
            document=labels[row["file"]] if whole_file else f"{int(row['document']):016x}",
            ids=tuple(ids.tolist()),
            target=tuple(target.tolist()),
            cut_tokens=int(row["cut"]),
            scored_bytes=int(row["n_bytes"]),
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each example."""
        found = [part.store.lengths[part.numbers] for part in self.parts]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    @property
    def target_counts(self) -> NDArray[np.int64]:
        """The number of target tokens of each example."""
        found = [part.store.target_counts()[part.numbers] for part in self.parts]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    @property
    def contents(self) -> NDArray[np.uint64]:
        """A hash of what each example's row says, to find the same row elsewhere."""
        found = [np.asarray(p.store.rows["content"][p.numbers]) for p in self.parts]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.uint64)

    @property
    def windows(self) -> NDArray[np.int64]:
        """The number of each example among the pieces of its row; 0 when there is only one."""
        found = [np.asarray(p.store.rows["window"][p.numbers]) for p in self.parts]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    @property
    def documents(self) -> NDArray[np.uint64]:
        """The key of the document of each example."""
        found = [np.asarray(p.store.rows["document"][p.numbers]) for p in self.parts]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.uint64)

    def hash(self) -> str:
        """Hash the tokens and targets of all examples, whatever their order or batch."""
        digests = []
        for part in self.parts:
            store = part.store
            for number in part.numbers.tolist():
                ids, target = store.tokens(number)
                one = hashlib.sha256(ids.astype("<i8").tobytes())
                one.update(target.tobytes())
                digests.append(one.digest())
        return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
