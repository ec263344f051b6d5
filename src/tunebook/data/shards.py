"""Examples of one or more stores, by number: what is trained on, or what is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

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

    def source_of(self, i: int) -> str:
        """Give the name of the source that example i is from."""
        return self._find(i)[0].name

    def example(self, i: int) -> Tokens:
        """Read example i."""
        part, number = self._find(i)
        store, row = part.store, part.store.rows[number]
        start, stop = int(store.offsets[number]), int(store.offsets[number + 1])
        labels: Sequence[str] = store.facts["labels"]
        by_file: Sequence[bool] = store.facts["by_file"]
        where = part.name if len(labels) == 1 else f"{part.name}/{labels[row['file']]}"
        window = f"/{row['window']}" if row["window"] else ""
        whole_file = by_file[row["file"]]
        return Tokens(
            id=f"{where}#{row['row']}{window}",
            document=labels[row["file"]] if whole_file else f"{int(row['document']):016x}",
            ids=tuple(store.ids[start:stop].tolist()),
            target=tuple(store.target[start:stop].tolist()),
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
                start, stop = int(store.offsets[number]), int(store.offsets[number + 1])
                one = hashlib.sha256(store.ids[start:stop].astype("<i8").tobytes())
                one.update(store.target[start:stop].tobytes())
                digests.append(one.digest())
        return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
