"""Cut tokenized examples to length: drop, cut or split what is too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunebook.data.tokenize import TokenBlock

KEPT, OVERLONG, NO_TARGET = 0, 1, 2
"""What became of an example."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The rows that examples became, laid end to end.

    Per example: `fate` (KEPT, OVERLONG or NO_TARGET). Per row: `owner` (the example), `window` (0,
    or its number from 1 when the example was split), `lengths`, `n_target`, `n_bytes` of its target
    tokens, and `cut`, the tokens lost.
    """

    fate: NDArray[np.int64]
    ids: NDArray[Any]
    target: NDArray[np.bool_]
    owner: NDArray[np.int64]
    window: NDArray[np.int64]
    lengths: NDArray[np.int64]
    n_target: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    cut: NDArray[np.int64]


def fit(block: TokenBlock, limit: int, overlong: str) -> Fitted:
    """Make rows of at most `limit` tokens of examples; `overlong` is drop, cut or split.

    Each window of a split example begins with the last token of the one before, as context without
    loss, so that every token after the first is predicted exactly once.
    """
    lengths = block.lengths
    fate = np.full(len(lengths), KEPT, dtype=np.int64)
    long = lengths > limit
    if overlong == "drop":
        fate[long] = OVERLONG
    targets = _sums(block.target, block.starts[:-1], lengths)
    if overlong == "cut":
        for i in np.flatnonzero(long).tolist():
            targets[i] = block.target[block.starts[i] : block.starts[i] + limit].sum()
    fate[(fate == KEPT) & (targets == 0)] = NO_TARGET

    n_windows = np.where(fate == KEPT, 1, 0)
    if overlong == "split":
        several = (fate == KEPT) & long
        n_windows[several] = -(-(lengths[several] - 1) // (limit - 1))
    owner = np.repeat(np.arange(len(lengths)), n_windows)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    starts = block.starts[:-1][owner] + number * (limit - 1)
    stops = np.minimum(starts + limit, block.starts[1:][owner])
    size = stops - starts
    first = np.cumsum(size) - size
    if len(owner) == len(lengths) and np.array_equal(size, lengths):
        ids, target, n_bytes = block.ids, block.target.copy(), block.n_bytes
    else:
        parts = [slice(a, b) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
        ids, target = _taken(block.ids, parts), _taken(block.target, parts)
        n_bytes = _taken(block.n_bytes, parts)
    target[first] = False
    return Fitted(
        fate=fate,
        ids=ids,
        target=target,
        owner=owner,
        window=np.where(n_windows[owner] > 1, number + 1, 0),
        lengths=size,
        n_target=_sums(target, first, size),
        n_bytes=_sums(n_bytes * target, first, size),
        cut=np.where(overlong == "cut", lengths[owner] - size, 0),
    )


def _taken(values: NDArray[Any], parts: Sequence[slice]) -> NDArray[Any]:
    return np.concatenate([values[part] for part in parts]) if parts else values[:0]


def _sums(
    values: NDArray[Any], first: NDArray[np.int64], size: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Add up stretches of values that lie end to end; an empty one is 0."""
    found = np.zeros(len(first), dtype=np.int64)
    some = size > 0
    if some.any():
        found[some] = np.add.reduceat(values, first[some], dtype=np.int64)
    return found
