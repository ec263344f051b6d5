"""Where styled answers are cut from plain ones."""

from __future__ import annotations

import math
from collections.abc import Sequence


def style_threshold(styled: Sequence[float], plain: Sequence[float]) -> tuple[float, float]:
    """Choose the style ratio that best tells styled answers from plain ones, and say how well.

    The cut with the largest Youden's J (1950), share of `styled` above it minus share of `plain`;
    of several the middle one. Infinite with J = 0 where nothing tells them apart.
    """
    values = sorted({*styled, *plain})
    cuts = [(a + b) / 2 for a, b in zip(values, values[1:], strict=False)]
    scored = [(_above(styled, cut) - _above(plain, cut), cut) for cut in cuts]
    best = max((j for j, _ in scored), default=0.0)
    if best <= 0:
        return math.inf, 0.0
    tied = [cut for j, cut in scored if j == best]
    return tied[len(tied) // 2], best


def _above(values: Sequence[float], cut: float) -> float:
    return sum(value > cut for value in values) / len(values) if values else 0.0
