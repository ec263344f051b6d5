"""Lay examples end to end in one flat row, each token knowing its place and its example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tunebook.data.order import SourcedExample
from tunebook.data.shards import Shards


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples laid end to end; there is no padding but what the examples came with.

    Per token: `ids`, `positions` (from 0 in each example), `target` (it is predicted and scored;
    never the first of an example), `segment` (the example's place in the batch). Per example:
    `lengths`, `example_ids`, `sources`, `scales`, how often its gradient counts (empty: all once),
    and `rows`, the places of their rows among those of a step (empty: they are of no step).
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    target: NDArray[np.bool_]
    segment: NDArray[np.int64]
    lengths: tuple[int, ...]
    example_ids: tuple[str, ...]
    sources: tuple[str, ...]
    scales: tuple[float, ...] = ()
    rows: tuple[int, ...] = ()


def collate(examples: Sequence[SourcedExample], rows: tuple[int, ...] = ()) -> MicroBatch:
    """Lay examples end to end in their order."""
    lengths = tuple(len(example.tokens.ids) for example in examples)
    total = sum(lengths)
    ids = chain.from_iterable(example.tokens.ids for example in examples)
    target = chain.from_iterable(example.tokens.target for example in examples)
    segment = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    starts = np.cumsum([0, *lengths])[segment]
    positions = np.arange(total, dtype=np.int64) - starts
    scales = tuple(example.learning_rate_scale for example in examples)
    return MicroBatch(
        ids=np.fromiter(ids, np.int64, total),
        positions=positions,
        target=np.fromiter(target, np.bool_, total) & (positions > 0),
        segment=segment,
        lengths=lengths,
        example_ids=tuple(example.tokens.id for example in examples),
        sources=tuple(example.source for example in examples),
        scales=scales if set(scales) != {1.0} else (),
        rows=rows,
    )


def padding_of(batch: MicroBatch, fill_ids: Set[int]) -> NDArray[np.bool_]:
    """Mark the fill tokens behind the first one at the end of each example, which ends it."""
    found = np.zeros(len(batch.ids), dtype=bool)
    if not fill_ids:
        return found
    fill = np.isin(batch.ids, list(fill_ids))
    start = 0
    for length in batch.lengths:
        stop = start + length
        text = np.flatnonzero(~fill[start:stop])
        first = start + (int(text[-1]) + 1 if len(text) else 0)
        found[first + 1 : stop] = True
        start = stop
    return found


def validation_batches(
    shards: Shards, tokens_per_batch: int, *, limit: int | None = None
) -> Iterator[MicroBatch]:
    """Yield the first `limit` examples (all by default) in order, as many to a batch as fit.

    An example longer than `tokens_per_batch` is a batch of its own.
    """
    for rows in numbers_by_batch(shards.lengths[:limit].tolist(), tokens_per_batch):
        yield collate([SourcedExample(shards.example(i), shards.source_of(i)) for i in rows])


def numbers_by_batch(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[range]:
    """Yield the numbers of the examples of each batch, known by their lengths alone."""
    start = n_tokens = 0
    for index, length in enumerate(lengths):
        if index > start and n_tokens + length > tokens_per_batch:
            yield range(start, index)
            start, n_tokens = index, 0
        n_tokens += length
    if len(lengths) > start:
        yield range(start, len(lengths))
