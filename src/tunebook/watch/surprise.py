"""How far batches and examples are from others at the same weights, in robust SDs."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TO_SD = 1.4826
_FLOOR = 0.1  # nats per target token
_FEWEST_ALIKE = 24
_NEIGHBOURS = 256
_EVERY = 64


def example_z(
    above: Floats, target_tokens: Floats, sources: NDArray[np.int64] | None = None
) -> Floats:
    """Compare each example's loss above its level with those of about as many target tokens.

    And of the same source, where there are several.

    An example of few target tokens varies more than one of many, so that they are compared by
    powers of two; a length that few have goes with the nearest that many have. Then, since losses
    lie further apart at the start of a run than at its end, with the 256 examples around it.
    """
    z = np.zeros(len(above))
    bins = np.log2(np.maximum(target_tokens, 1)).astype(np.int64)
    if sources is None:
        bins = _merge_small(bins)
    else:
        for source in np.unique(sources):
            mine = sources == source
            # No number of tokens has a logarithm of 64.
            bins[mine] = 64 * source + _merge_small(bins[mine])
    for one in np.unique(bins):
        mine = bins == one
        values = above[mine]
        known = values[np.isfinite(values)]
        if len(known) < _FEWEST_ALIKE // 2:
            continue
        center = np.median(known)
        scale = max(_TO_SD * float(np.median(np.abs(known - center))), _FLOOR)
        z[mine] = np.where(np.isfinite(values), (values - center) / scale, 0.0)
    return _among_neighbours(z)


def _among_neighbours(z: Floats) -> Floats:
    if len(z) < _NEIGHBOURS:
        return z
    windows = sliding_window_view(z, _NEIGHBOURS)[::_EVERY]
    center = np.median(windows, axis=1)
    scale = _TO_SD * np.median(np.abs(windows - center[:, None]), axis=1)
    nearest = (np.arange(len(z)) - (_NEIGHBOURS - _EVERY) // 2) // _EVERY
    nearest = np.clip(nearest, 0, len(windows) - 1)
    # No less than it was: examples that lie close by chance make no other one stand out.
    return np.asarray((z - center[nearest]) / np.maximum(scale[nearest], 1.0))


def _merge_small(bins: NDArray[np.int64]) -> NDArray[np.int64]:
    values, counts = np.unique(bins, return_counts=True)
    large = values[counts >= _FEWEST_ALIKE]
    if not len(large):
        return np.zeros_like(bins)
    nearest = np.array([large[np.argmin(np.abs(large - value))] for value in values])
    return nearest[np.searchsorted(values, bins)]


def tail_chance(z: Floats, value: float, left_out: NDArray[np.bool_]) -> float:
    """Give how many of so many values would be expected beyond `value`, by the tail of the others.

    The tail is a generalised Pareto distribution above the 95 % quantile (Pickands 1975), its
    shape, from 0 to 0.5, and scale by the method of moments (Hosking and Wallis 1987).
    """
    others = z[~left_out & np.isfinite(z)]
    if len(others) < 2 * _FEWEST_ALIKE:
        return 1.0
    threshold = float(np.quantile(others, 0.95))
    beyond = others[others > threshold] - threshold
    mean, variance = float(beyond.mean()), float(beyond.var(ddof=1))
    if mean <= 0 or variance <= 0:
        return 1.0
    shape = min(max(0.5 * (1 - mean**2 / variance), 0.0), 0.5)
    scale = mean * (1 - shape)
    far = (value - threshold) / scale
    tail = np.exp(-far) if shape == 0 else (1 + shape * far) ** (-1 / shape)
    return float(len(z) * 0.05 * tail)
