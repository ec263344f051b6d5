"""Which rows are trained on, in what order: a pure function of the seed and the row's index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunebook.accounts import SourceShare
from tunebook.data.packing import pack_rows
from tunebook.data.shards import Shards
from tunebook.records import Tokens

# What a generator is for is part of its seed, so that no two draws share their numbers.
_PACK, _SHARE, _SHUFFLE = 1, 2, 3


@dataclass(frozen=True, slots=True)
class SourcedExample:
    """An example, the name of the source it is from, and how often its gradient counts."""

    tokens: Tokens
    source: str
    learning_rate_scale: float = 1.0


class Rows(Protocol):
    """Rows to train on, counted over all epochs."""

    def row(self, index: int) -> tuple[SourcedExample, ...]:
        """Give the examples of a row."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one source: row r holds the examples numbers[starts[r]:starts[r + 1]].

    Without packing `numbers` is None and row r is example r. An epoch has every row `copies` times,
    and `share` rows once more, others each epoch, in the order of `walk`.
    """

    n_rows: int
    numbers: NDArray[np.integer] | None
    starts: NDArray[np.integer] | None
    copies: int
    share: int
    walk: NDArray[np.integer]

    def __len__(self) -> int:
        return self.n_rows

    def per_epoch(self) -> int:
        return self.copies * self.n_rows + self.share

    def mean_repeats(self) -> float:
        """Give how often a row is visited per epoch, on average over many."""
        return self.copies + self.share / self.n_rows if self.n_rows else 0.0

    def at(self, epoch: int, place: int) -> int:
        """Give the row at a place of an epoch that is not shuffled."""
        if place < self.copies * self.n_rows:
            return place % self.n_rows
        again = place - self.copies * self.n_rows + epoch * self.share
        return int(self.walk[again % self.n_rows])

    def many_at(self, epoch: int, places: NDArray[np.integer]) -> NDArray[np.int64]:
        """Give the rows at many places of an epoch, as `at` gives one."""
        whole = self.copies * self.n_rows
        found = places.astype(np.int64) % max(self.n_rows, 1)
        again = places >= whole
        if again.any():
            drawn = (places[again].astype(np.int64) - whole + epoch * self.share) % self.n_rows
            found[again] = self.walk[drawn]
        return found

    def lengths(self, of_examples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the tokens of every row."""
        if self.numbers is None or self.starts is None:
            return of_examples
        return np.add.reduceat(of_examples[self.numbers], self.starts[:-1])

    def examples(self, row: int) -> NDArray[np.integer]:
        """Give the numbers of the examples in a row."""
        if self.numbers is None or self.starts is None:
            return np.array([row])
        return self.numbers[self.starts[row] : self.starts[row + 1]]


class TrainSet:
    """The training rows of a run, indexed over all its epochs.

    A row is one example, or with packing several whole ones of one source up to `max_seq_len`.
    Weight 4.0 takes each row four times per epoch, 0.1 another tenth of them each epoch; `scales`
    are the learning-rate scales of the sources, 1 by default.
    """

    def __init__(
        self,
        sources: Sequence[Shards],
        weights: Sequence[float],
        *,
        seed: int,
        packing: bool,
        max_seq_len: int,
        scales: Sequence[float] = (),
    ) -> None:
        self.sources = tuple(sources)
        self._scales = tuple(scales) or (1.0,) * len(self.sources)
        self.weights = tuple(weights)
        self._seed = seed
        self._rows = [
            _lay_rows(shards, weight, place, seed, max_seq_len if packing else None)
            for place, (shards, weight) in enumerate(zip(sources, weights, strict=True))
        ]
        self._bounds = np.cumsum([0, *(rows.per_epoch() for rows in self._rows)])
        self.rows_per_epoch = int(self._bounds[-1])
        self.shares = tuple(
            _share_of(shards, weight, rows)
            for shards, weight, rows in zip(self.sources, self.weights, self._rows, strict=True)
        )
        self.examples_per_epoch = sum(share.examples for share in self.shares)
        self.tokens_per_epoch = sum(share.tokens for share in self.shares)
        self.target_tokens_per_epoch = sum(share.target_tokens for share in self.shares)
        self._order: tuple[int, NDArray[np.integer]] | None = None

    def __len__(self) -> int:
        return self.rows_per_epoch

    @property
    def packed(self) -> tuple[NDArray[np.integer] | None, ...]:
        """The examples of each source in the order they are packed; None without packing."""
        return tuple(rows.numbers for rows in self._rows)

    def row(self, index: int) -> tuple[SourcedExample, ...]:
        """Give the examples of a row; index // rows_per_epoch is the epoch, from 0."""
        source, row = self.address(index)
        shards = self.sources[source]
        return tuple(
            SourcedExample(shards.example(int(i)), shards.source_of(int(i)), self._scales[source])
            for i in self._rows[source].examples(row)
        )

    def target_counts_of(self, index: int) -> list[tuple[str, int]]:
        """Give the id and the number of target tokens of each example of a row."""
        source, row = self.address(index)
        shards = self.sources[source]
        return [shards.target_count_of(int(i)) for i in self._rows[source].examples(row)]

    def address(self, index: int) -> tuple[int, int]:
        """Give the source of a row and its number there, without reading it."""
        if index < 0:
            raise IndexError(f"row {index}")
        epoch, place = divmod(index, self.rows_per_epoch)
        place = int(self._epoch(epoch)[place])
        source = int(np.searchsorted(self._bounds, place, side="right")) - 1
        return source, self._rows[source].at(epoch, place - int(self._bounds[source]))

    def row_lengths(self, epoch: int) -> NDArray[np.int64]:
        """Give the tokens of every row of an epoch, in the order they are visited."""
        place = self._epoch(epoch)
        found = np.zeros(len(place), dtype=np.int64)
        for source, (shards, rows) in enumerate(zip(self.sources, self._rows, strict=True)):
            low, high = self._bounds[source], self._bounds[source + 1]
            here = np.flatnonzero((place >= low) & (place < high))
            found[here] = rows.lengths(shards.lengths)[rows.many_at(epoch, place[here] - low)]
        return found

    def tokens_of_rows(self, n_rows: int) -> int:
        """Count the tokens of the first so many rows over all epochs, each row of a source once."""
        seen = [np.zeros(len(rows), dtype=bool) for rows in self._rows]
        for epoch in range(-(-n_rows // self.rows_per_epoch)):
            place = self._epoch(epoch)[: n_rows - epoch * self.rows_per_epoch]
            for source, rows in enumerate(self._rows):
                low, high = self._bounds[source], self._bounds[source + 1]
                here = place[(place >= low) & (place < high)] - low
                seen[source][rows.many_at(epoch, here)] = True
            if all(found.all() for found in seen):
                break
        return sum(
            int(rows.lengths(shards.lengths)[found].sum())
            for shards, rows, found in zip(self.sources, self._rows, seen, strict=True)
        )

    def _epoch(self, epoch: int) -> NDArray[np.integer]:
        # Only the epoch in use is kept, four bytes a row; any other follows from (seed, epoch).
        if self._order is None or self._order[0] != epoch:
            order = _counted(self.rows_per_epoch)
            _generator(self._seed, _SHUFFLE, epoch).shuffle(order)
            self._order = (epoch, order)
        return self._order[1]


def _lay_rows(shards: Shards, weight: float, place: int, seed: int, capacity: int | None) -> _Rows:
    numbers, starts, n_rows = None, None, len(shards)
    if capacity is not None:
        numbers, starts = pack_rows(shards.lengths, capacity, _generator(seed, _PACK, place))
        n_rows = len(starts) - 1
    copies = int(weight)
    share = round((weight - copies) * n_rows)
    if copies == 0 and n_rows:
        share = max(share, 1)  # A source that was named is never left out by rounding.
    walk = _counted(n_rows if share else 0)
    _generator(seed, _SHARE, place).shuffle(walk)
    return _Rows(n_rows, numbers, starts, copies, share, walk)


def _share_of(shards: Shards, weight: float, rows: _Rows) -> SourceShare:
    repeats = rows.mean_repeats()
    return SourceShare(
        name=shards.name,
        weight=weight,
        rows=rows.per_epoch(),
        examples=round(len(shards) * repeats),
        tokens=round(int(shards.lengths.sum()) * repeats),
        target_tokens=round(int(shards.target_counts.sum()) * repeats),
    )


def _counted(n: int) -> NDArray[np.integer]:
    return np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)


def _generator(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, purpose, number]))
