"""Which rows are trained on, in what order: a pure function of the seed and the row's index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.data.packing import pack_rows
from tunebook.data.shards import Shards
from tunebook.records import Tokens

# What a generator is for is part of its seed, so that no two draws share their numbers.
_PACK, _SHARE, _SHUFFLE = 1, 2, 3


@dataclass(frozen=True, slots=True)
class SourcedExample:
    """An example and the name of the source it is from."""

    tokens: Tokens
    source: str


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one source: row r holds the examples numbers[starts[r]:starts[r + 1]].

    An epoch takes every row `copies` times, and `share` rows once more, others each epoch, in the
    order of `walk`.
    """

    numbers: NDArray[np.int64]
    starts: NDArray[np.int64]
    copies: int
    share: int
    walk: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def per_epoch(self) -> int:
        return self.copies * len(self) + self.share

    def in_epoch(self, epoch: int) -> NDArray[np.int64]:
        again = (np.arange(self.share) + epoch * self.share) % len(self)
        return np.concatenate([np.tile(np.arange(len(self)), self.copies), self.walk[again]])


class TrainSet:
    """The training rows of a run, indexed over all its epochs.

    A row is one example, or with packing several whole ones of one source up to `max_seq_len`.
    Weight 4.0 takes each row four times per epoch, 0.1 another tenth of them each epoch.
    """

    def __init__(
        self,
        sources: Sequence[Shards],
        weights: Sequence[float],
        *,
        seed: int,
        packing: bool,
        max_seq_len: int,
    ) -> None:
        self.sources = tuple(sources)
        self.weights = tuple(weights)
        self._seed = seed
        self._rows = [
            _lay_rows(shards, weight, place, seed, max_seq_len if packing else None)
            for place, (shards, weight) in enumerate(zip(sources, weights, strict=True))
        ]
        self.rows_per_epoch = sum(rows.per_epoch() for rows in self._rows)
        self.examples_per_epoch = self._mean_total([np.ones(len(s)) for s in self.sources])
        self.tokens_per_epoch = self._mean_total([s.lengths for s in self.sources])
        self.target_tokens_per_epoch = self._mean_total([s.target_counts for s in self.sources])
        self._order: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return self.rows_per_epoch

    def _mean_total(self, per_example: Sequence[NDArray[np.generic]]) -> int:
        """Add up over an epoch; where a share is drawn anew each epoch, its mean over epochs."""
        total = 0.0
        for rows, values in zip(self._rows, per_example, strict=True):
            if len(rows):
                total += float(np.sum(values)) * (rows.copies + rows.share / len(rows))
        return round(total)

    def row(self, index: int) -> tuple[SourcedExample, ...]:
        """Give the examples of a row; index // rows_per_epoch is the epoch, from 0."""
        source, row = self.address(index)
        rows, shards = self._rows[source], self.sources[source]
        numbers = rows.numbers[rows.starts[row] : rows.starts[row + 1]]
        return tuple(
            SourcedExample(shards.example(int(i)), shards.source_of(int(i))) for i in numbers
        )

    def address(self, index: int) -> tuple[int, int]:
        """Give the source of a row and its number there, without reading it."""
        if index < 0:
            raise IndexError(f"row {index}")
        epoch, place = divmod(index, self.rows_per_epoch)
        source, row = self._epoch(epoch)
        return int(source[place]), int(row[place])

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        # Only the epoch in use is kept; any other is computed again from (seed, epoch).
        if self._order is None or self._order[0] != epoch:
            parts = [rows.in_epoch(epoch) for rows in self._rows]
            source = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            shuffle = _generator(self._seed, _SHUFFLE, epoch).permutation(len(source))
            row = np.concatenate(parts).astype(np.int64)
            self._order = (epoch, source[shuffle].astype(np.int64), row[shuffle])
        return self._order[1], self._order[2]


def _lay_rows(shards: Shards, weight: float, place: int, seed: int, capacity: int | None) -> _Rows:
    if capacity is None:
        numbers, starts = np.arange(len(shards)), np.arange(len(shards) + 1)
    else:
        numbers, starts = pack_rows(shards.lengths, capacity, _generator(seed, _PACK, place))
    n_rows = len(starts) - 1
    copies = int(weight)
    share = round((weight - copies) * n_rows)
    if copies == 0 and n_rows:
        share = max(share, 1)  # A source that was named is never left out by rounding.
    walk = _generator(seed, _SHARE, place).permutation(n_rows)
    return _Rows(numbers.astype(np.int64), starts.astype(np.int64), copies, share, walk)


def _generator(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, purpose, number]))
