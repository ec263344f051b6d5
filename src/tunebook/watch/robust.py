"""Robust statistics of series: running medians and z by median absolute deviation."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

WINDOW = 48
"""Steps that a step is compared with."""
FEWEST = 8
"""Fewer known values before a step give it no z."""
_TO_SD = 1.4826  # of the normal distribution

Floats = NDArray[np.float64]


def windows_before(values: Floats, width: int = WINDOW) -> Floats:
    """Give for every place the `width` values before it, NaN where there are none: (T, width)."""
    padded = np.concatenate((np.full(width, np.nan), values))
    return sliding_window_view(padded, width)[: len(values)]


def robust_z(values: Floats, floor: float, width: int = WINDOW) -> Floats:
    """Give each value's distance from the median of those before it, in robust SDs.

    The scale is 1.4826 times the median absolute deviation, at least `floor`; values that are not
    finite are left out, and with fewer than `FEWEST` before it a z is 0.
    """
    known = np.where(np.isfinite(values), values, np.nan)
    before = windows_before(known, width)
    center = row_median(before)
    scale = np.maximum(_TO_SD * row_median(np.abs(before - center[:, None])), floor)
    z = (known - center) / scale
    enough = np.isfinite(before).sum(axis=1) >= FEWEST
    return np.where(enough & np.isfinite(z), z, 0.0)


def row_median(rows: Floats) -> Floats:
    """Give the median of each row without its NaNs; NaN for a row of nothing else.

    np.nanmedian does the same and goes row by row, a hundred times slower.
    """
    order = np.sort(rows, axis=1)  # NaN last
    count = np.isfinite(order).sum(axis=1)
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, rows.shape[1] - 1)
    at = np.arange(len(rows))
    return np.where(count > 0, (order[at, low] + order[at, high]) / 2, np.nan)
