"""Put whole examples together in rows of a given capacity, best fit first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**18
"""So many examples are packed at a time: what is needed beside the result stays small."""


def pack_rows(
    lengths: NDArray[np.int64],
    capacity: int,
    generator: np.random.Generator,
    block: int = BLOCK,
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Pack examples and return (numbers, starts): row r holds numbers[starts[r]:starts[r + 1]].

    Best fit decreasing: the longest example first, each into the fullest row that still holds it.
    Every example is in exactly one row; one longer than the capacity has a row of its own. Blocks
    of examples are drawn from the generator, and so is the order among examples of equal length.
    """
    order: NDArray[np.integer] = np.arange(
        len(lengths), dtype=np.int32 if len(lengths) < 2**31 else np.int64
    )
    generator.shuffle(order)
    sizes = []
    for start in range(0, len(order), block):
        members = order[start : start + block]
        row_of = _best_fit(np.asarray(lengths[members], dtype=np.int64), capacity)
        order[start : start + block] = members[np.argsort(row_of, kind="stable")]
        sizes.append(np.bincount(row_of))
    starts: NDArray[np.integer] = np.cumsum(np.concatenate([[0], *sizes]), dtype=order.dtype)
    return order, starts


def _best_fit(lengths: NDArray[np.int64], capacity: int) -> NDArray[np.int32]:
    """Give the row of each example.

    Examples of one length and rows of one free space are dealt with together: a row with f tokens
    free takes f // length of them, since a row it has just gone into is now the fullest. So the
    work grows with the number of different lengths, not of examples.
    """
    row_of = np.empty(len(lengths), dtype=np.int32)
    order = np.argsort(-lengths, kind="stable")
    # What leaves no room for the shortest has a row of its own.
    n_alone = int(np.searchsorted(-lengths[order], lengths.min() - capacity))
    row_of[order[:n_alone]] = np.arange(n_alone)
    n_rows = n_alone
    kinds, firsts = np.unique(-lengths[order[n_alone:]], return_index=True)
    bounds = [*(firsts + n_alone).tolist(), len(order)]
    open_rows = _OpenRows()
    for length, start, stop in zip((-kinds).tolist(), bounds[:-1], bounds[1:], strict=True):
        left = order[start:stop]
        while len(left):
            free = open_rows.fullest_with_room(length)
            each = (capacity if free is None else free) // length
            n_wanted = -(-len(left) // each)
            if free is None:
                free, rows = capacity, np.arange(n_rows, n_rows + n_wanted, dtype=np.int32)
                n_rows += n_wanted
            else:
                rows = open_rows.take(free, n_wanted)
            taken = min(len(left), len(rows) * each)
            row_of[left[:taken]] = np.repeat(rows, each)[:taken]
            left = left[taken:]
            # Only the last of these rows can be left with fewer than it has room for.
            short = len(rows) * each - taken
            open_rows.put(free - each * length, rows[: len(rows) - (short > 0)])
            if short:
                open_rows.put(free - (each - short) * length, rows[-1:])
    return row_of


class _OpenRows:
    """Rows by their free space; bit f of a mask is set when there are rows with f tokens free."""

    def __init__(self) -> None:
        self._rows: dict[int, list[NDArray[np.int32]]] = {}
        self._mask = 0

    def fullest_with_room(self, length: int) -> int | None:
        """Give the smallest free space of at least a length that a row has."""
        fitting = self._mask >> length
        return length + (fitting & -fitting).bit_length() - 1 if fitting else None

    def put(self, free: int, rows: NDArray[np.int32]) -> None:
        """Add rows, unless they are full."""
        if free > 0 and len(rows):
            self._rows.setdefault(free, []).append(rows)
            self._mask |= 1 << free

    def take(self, free: int, n_wanted: int) -> NDArray[np.int32]:
        """Remove and return up to so many rows of one free space."""
        rows = np.concatenate(self._rows.pop(free))
        self._mask ^= 1 << free
        self.put(free, rows[n_wanted:])
        return rows[:n_wanted]
