"""Fewer points of a curve, with every spike of one step still in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def chosen_points(y: NDArray[np.float64], buckets: int) -> NDArray[np.intp]:
    """Choose at most `2 * buckets + 2` indices of a curve: the lowest and highest of each bucket.

    Buckets are equal shares of the points. Values that are not finite are left out; the first and
    the last finite ones are always there. Indices rise.
    """
    finite: NDArray[np.intp] = np.flatnonzero(np.isfinite(y))
    if len(finite) <= 2 * buckets + 2:
        return finite
    values = y[finite]
    edges = np.linspace(0, len(finite), buckets + 1).astype(np.intp)
    width = int(np.diff(edges).max())
    # A bucket is a row; short rows are filled with copies of their own last point.
    at = np.minimum(edges[:-1, None] + np.arange(width), edges[1:, None] - 1)
    rows = np.arange(buckets)
    low, high = values[at].argmin(axis=1), values[at].argmax(axis=1)
    ends = np.array([0, len(finite) - 1])
    kept: NDArray[np.intp] = np.unique(np.concatenate([at[rows, low], at[rows, high], ends]))
    chosen: NDArray[np.intp] = finite[kept]
    return chosen
