"""Where scores and their intervals stand on an axis, in percent of its width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunebook.units import format_number

_TICKS = 6
_ROOM = 0.04


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis from `low` to `high`."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Give the place of a value in percent, kept on the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Give round numbers on the axis, at most seven, with their places."""
        size = 10.0 ** math.floor(math.log10((self.high - self.low) / _TICKS))
        width = self.high - self.low
        size *= next(m for m in (1, 2, 5, 10, 20) if width / (size * m) <= _TICKS)
        first = math.ceil(self.low / size - 1e-9)
        numbers = [n * size for n in range(first, math.floor(self.high / size + 1e-9) + 1)]
        return [(self.place(n), _tick_text(n, size)) for n in numbers]


def _tick_text(value: float, size: float) -> str:
    if abs(value) >= 1e6 or size < 1e-5:
        return format_number(value)
    decimals = max(0, -math.floor(math.log10(size) + 1e-9))
    return f"{value:,.{decimals}f}"


def axis_over(values: Iterable[float | None], also: Sequence[float] = ()) -> Axis | None:
    """Give an axis on which all values find room; None without a finite one."""
    found = [v for v in (*values, *also) if v is not None and math.isfinite(v)]
    if not found:
        return None
    low, high = min(found), max(found)
    width = high - low
    if width <= 1e-9 * max(abs(low), abs(high), 1e-9):
        middle, width = low, max(abs(high), 1.0) * 0.02
        low, high = middle - width / 2, middle + width / 2
    return Axis(low - width * _ROOM, high + width * _ROOM)
