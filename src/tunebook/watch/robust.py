"""Robust statistics of series: running medians and z by median absolute deviation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

WINDOW = 48
"""Steps that a step is compared with."""
FEWEST = 12
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
    finite are left out, and with fewer than `FEWEST` before it a z is 0. The medians are taken anew
    at every fourth place, which is what keeps long logs quick.
    """
    known = np.where(np.isfinite(values), values, np.nan)
    center, scale, count = levels_before(known, width, 4)
    z = (known - center) / np.maximum(scale, floor)
    return np.where((count >= FEWEST) & np.isfinite(z), z, 0.0)


def levels_before(
    values: Floats, width: int, every: int
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Give median, robust SD and number of the values before each place, anew `every` places."""
    before = windows_before(values, width)[::every]
    center = row_median(before)
    scale = _TO_SD * row_median(np.abs(before - center[:, None]))
    count = np.isfinite(before).sum(axis=1)
    center, scale, count = (np.repeat(c, every)[: len(values)] for c in (center, scale, count))
    return center, scale, count


def spread(values: Floats) -> float:
    """Give the robust SD of values about a level that may drift, by their differences."""
    steps = np.diff(values[np.isfinite(values)])
    if len(steps) < 4:
        return 0.0
    return _TO_SD * float(np.median(np.abs(steps - np.median(steps)))) / 2**0.5


def row_median(rows: Floats) -> Floats:
    """Give the median of each row without its NaNs; NaN for a row of nothing else.

    np.nanmedian does the same and goes row by row, a hundred times slower.
    """
    order = np.sort(rows, axis=1)  # NaN last
    count = np.isfinite(order).sum(axis=1)
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, rows.shape[1] - 1)
    at = np.arange(len(rows))
    return np.where(count > 0, (order[at, low] + order[at, high]) / 2, np.nan)


@dataclass(frozen=True, slots=True)
class Shifts:
    """For every place, how much the level from there on differs from the level before it.

    `shift` is the median of the `width` values from a place on less that of those before it, `z`
    the same in standard errors of two medians, `edge` what the nearest third of the values show of
    it: near 1 where the level changes at once, less where it drifts. NaN near both ends.
    """

    shift: Floats
    z: Floats
    edge: Floats


def level_shifts(values: Floats, width: int, floor: float) -> Shifts:
    """Compare levels before and after every place; `floor` is the least scale of the noise."""
    known = np.where(np.isfinite(values), values, np.nan)
    padded = np.concatenate((np.full(width, np.nan), known, np.full(width, np.nan)))
    windows = sliding_window_view(padded, width)
    before, after = windows[: len(values)], windows[width : width + len(values)]
    short = max(width // 3, 2)
    levels = row_median(before), row_median(after)
    shift = levels[1] - levels[0]
    near = row_median(after[:, :short]) - row_median(before[:, -short:])
    spread = np.hstack(
        [np.abs(rows - level[:, None]) for rows, level in zip((before, after), levels, strict=True)]
    )
    noise = np.maximum(_TO_SD * row_median(spread), floor)
    # The standard error of a median is sqrt(pi / 2) of that of a mean.
    error = noise * np.sqrt(np.pi / 2 * 2 / width)
    whole = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = shift, shift / error, near / shift
    return Shifts(*(np.where(whole, column, np.nan) for column in columns))


def change_point(values: Floats, near: int, *, within: int = 8, span: int = 24) -> int:
    """Give the place around `near` where two levels explain the values best (least squares).

    Tried are the places up to `within` away, over `span` values on either side of `near`.
    """
    start, stop = max(near - span, 0), min(near + span, len(values))
    part = values[start:stop]
    part = np.where(np.isfinite(part), part, np.nanmedian(part))
    sums, n = np.concatenate(([0.0], np.cumsum(part))), len(part)
    cuts = np.arange(max(near - within - start, 1), min(near + within - start, n - 1) + 1)
    if not len(cuts):
        return near
    # Of a split in two, the explained part: n1 m1^2 + n2 m2^2.
    explained = sums[cuts] ** 2 / cuts + (sums[-1] - sums[cuts]) ** 2 / (n - cuts)
    return start + int(cuts[np.argmax(explained)])


def first_of_strongest(
    shifts: Shifts, hit: NDArray[np.bool_], values: Floats
) -> tuple[int, int] | None:
    """Give the strongest place of the first stretch that is hit, and its `change_point`."""
    places = np.flatnonzero(hit)
    if not len(places):
        return None
    gap = np.flatnonzero(np.diff(places) > 2)
    stretch = places[: int(gap[0]) + 1] if len(gap) else places
    strongest = int(stretch[np.argmax(np.abs(shifts.z[stretch]))])
    return strongest, change_point(values, strongest)
