"""Cut rows into chunks to be scored, a few at random where a row is long.

Source: the astronomy notebook's cleaning by loss, 16 random chunks of 512 tokens per document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunebook.data.batches import MicroBatch


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of row number `row` of a group; the first of them is context and never a target."""

    row: int
    ids: NDArray[Any]
    target: NDArray[np.bool_]


def cut_chunks(
    row: int,
    ids: NDArray[Any],
    target: NDArray[np.bool_],
    *,
    max_tokens: int,
    n_chunks: int,
    seed: int,
) -> list[Chunk]:
    """Cut a row end to end and draw `n_chunks` of the chunks that have a target token.

    Chunks do not overlap but for one token of context, so no token counts twice, and a row of few
    chunks is scored whole. The draw depends on nothing but the seed.
    """
    starts = range(0, max(len(ids) - 1, 1), max_tokens - 1)
    useful = []
    for start in starts:
        stop = min(start + max_tokens, len(ids))
        carries = target[start:stop].copy()
        carries[:1] = False
        if carries.any():
            useful.append(Chunk(row, ids[start:stop], carries))
    if len(useful) <= n_chunks:
        return useful
    drawn = np.random.default_rng(seed).choice(len(useful), n_chunks, replace=False)
    return [useful[place] for place in sorted(drawn.tolist())]


def batches_of_chunks(chunks: Sequence[Chunk], tokens_per_batch: int) -> Iterator[MicroBatch]:
    """Lay chunks end to end, as many to a batch as fit, the longest ones together."""
    waiting: list[Chunk] = []
    n_tokens = 0
    for chunk in sorted(chunks, key=lambda c: -len(c.ids)):
        if waiting and n_tokens + len(chunk.ids) > tokens_per_batch:
            yield _collate(waiting)
            waiting, n_tokens = [], 0
        waiting.append(chunk)
        n_tokens += len(chunk.ids)
    if waiting:
        yield _collate(waiting)


def _collate(chunks: Sequence[Chunk]) -> MicroBatch:
    lengths = tuple(len(chunk.ids) for chunk in chunks)
    return MicroBatch(
        ids=np.concatenate([chunk.ids for chunk in chunks]).astype(np.int64),
        positions=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
        target=np.concatenate([chunk.target for chunk in chunks]),
        segment=np.repeat(np.arange(len(lengths), dtype=np.int64), lengths),
        lengths=lengths,
        example_ids=tuple(str(chunk.row) for chunk in chunks),
        sources=("",) * len(chunks),
    )
