"""Put whole examples together in rows of a given capacity, best fit first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pack_rows(
    lengths: NDArray[np.int64], capacity: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pack examples and return (numbers, starts): row r holds numbers[starts[r]:starts[r + 1]].

    Best fit decreasing: the longest example first, each into the fullest row that still holds it.
    Rows are found by their free space through a bit mask, so n examples cost n steps. Every example
    is in exactly one row; one longer than the capacity has a row of its own. Examples of equal
    length are taken in an order drawn from the generator.
    """
    shuffled = generator.permutation(len(lengths))
    order = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # free space -> rows with exactly that much
    mask = 0  # bit f is set when a row with f tokens free exists
    for number, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = mask >> length
        if fitting:
            free = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[free].pop()
            if not open_rows[free]:
                mask ^= 1 << free
            rows[row].append(number)
        else:
            row, free = len(rows), max(capacity, length)
            rows.append([number])
        left = free - length
        if left:
            open_rows.setdefault(left, []).append(row)
            mask |= 1 << left
    starts = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
    return np.array([n for row in rows for n in row], dtype=np.int64), starts
