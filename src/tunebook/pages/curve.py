"""A loss curve in braille dots, the same on the page and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunebook.pages.run_curves import RunCurves
from tunebook.units import format_number

# Bit of each of the 2 x 4 dots of a braille sign, by column and row from the top.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def draw_curve(
    steps: Sequence[int],
    losses: Sequence[float],
    validations: Sequence[tuple[int, float]],
    *,
    width: int = 96,
    height: int = 14,
    marks: Sequence[int] = (),
    word: str = "train",
) -> str:
    """Draw the training loss as dots and validations as circles; no line is wider than `width`.

    Every dot column shows the whole range of its steps, so a spike of one step stays visible.
    Steps whose loss is not finite are crosses on the top edge, and the axis points to `marks`.
    """
    points = [(s, v) for s, v in zip(steps, losses, strict=True) if math.isfinite(v)]
    checks = [(s, v) for s, v in validations if math.isfinite(v)]
    broken = [s for s, v in zip(steps, losses, strict=True) if not math.isfinite(v)]
    broken += [s for s, v in validations if not math.isfinite(v)]
    if not points and not checks:
        return "no finite loss to draw"
    values = [value for _, value in (*points, *checks)]
    low, high = min(values), max(values)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    all_steps = [step for step, _ in (*points, *checks)] + broken
    canvas = _Canvas((min(all_steps), max(all_steps)), (low, high), width, height)
    canvas.draw_line(points)
    for step, value in checks:
        canvas.mark(step, value, "○")
    for step in broken:
        canvas.mark(step, high, "×")
    legend = [f"⣀ {word}"] if points else []
    legend += ["○ validation"] if checks else []
    legend += ["× not finite"] if broken else []
    legend += ["▲ verdict"] if marks else []
    return canvas.text(legend, marks)


def draw_curves(run: RunCurves, width: int) -> str:
    """Draw the losses of a run with its verdicts, then its learning rate and gradient norm."""
    held_out = [(step, loss) for step, loss, _ in run.held_out]
    marks = [first for _, first, _ in run.flags]
    parts = [run.name, draw_curve(run.steps, run.losses, held_out, width=width, marks=marks)]
    parts += [
        f"▲ {kind}, step {first}" + (f" to {last}" if last > first else "")
        for kind, first, last in run.flags
    ]
    for word, column in (("learning rate", run.learning_rates), ("gradient norm", run.grad_norms)):
        known = [(s, v) for s, v in zip(run.steps, column, strict=True) if not math.isnan(v)]
        if known:
            steps, values = zip(*known, strict=True)
            drawn = draw_curve(steps, values, [], width=width, height=7, marks=marks, word=word)
            parts += ["", drawn]
    return "\n".join(parts)


class _Canvas:
    """Cells of a plot area with axes left and below."""

    def __init__(
        self, steps: tuple[int, int], values: tuple[float, float], width: int, height: int
    ):
        self._steps, self._values = steps, values
        middle = (values[0] + values[1]) / 2
        self._labels = [format_number(v, 4) for v in (values[1], middle, values[0])]
        self._margin = max(len(label) for label in self._labels)
        self._columns = max(width - self._margin - 2, 8)
        self._rows = max(height - 2, 3)
        self._bits = [[0] * self._columns for _ in range(self._rows)]
        self._marks: dict[tuple[int, int], str] = {}

    def _x(self, step: int) -> int:
        first, last = self._steps
        share = (step - first) / (last - first) if last > first else 0.0
        return round(share * (self._columns * 2 - 1))

    def _y(self, value: float) -> int:
        low, high = self._values
        return round((high - value) / (high - low) * (self._rows * 4 - 1))

    def draw_line(self, points: Sequence[tuple[int, float]]) -> None:
        """Join the points, column by column."""
        previous: tuple[int, int] | None = None
        for step, value in sorted(points):
            x, y = self._x(step), self._y(value)
            if previous is None or x == previous[0]:
                start = y if previous is None else previous[1]
                self._dots(x, start, y)
            else:
                self._slope(previous, (x, y))
            previous = (x, y)

    def _slope(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        (x0, y0), (x1, y1) = start, end
        before = y0
        for x in range(x0 + 1, x1 + 1):
            y = round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
            self._dots(x, before, y)
            before = y

    def _dots(self, x: int, y0: int, y1: int) -> None:
        for y in range(min(y0, y1), max(y0, y1) + 1):
            self._bits[y // 4][x // 2] |= _DOTS[x % 2][y % 4]

    def mark(self, step: int, value: float, sign: str) -> None:
        """Put a sign over a cell."""
        self._marks[self._y(value) // 4, self._x(step) // 2] = sign

    def text(self, legend: Sequence[str], marks: Sequence[int] = ()) -> str:
        """Write the plot with its axes."""
        at = {0: self._labels[0], self._rows // 2: self._labels[1], self._rows - 1: self._labels[2]}
        lines = []
        for row in range(self._rows):
            signs = [
                self._marks.get((row, column)) or (chr(0x2800 + bits) if bits else " ")
                for column, bits in enumerate(self._bits[row])
            ]
            edge = "┤" if row in at else "│"
            lines.append(f"{at.get(row, ''):>{self._margin}} {edge}{''.join(signs)}".rstrip())
        first, last = self._steps
        pointed = {self._x(step) // 2 for step in marks if first <= step <= last}
        axis = "".join("▲" if column in pointed else "─" for column in range(self._columns))
        lines.append(" " * (self._margin + 1) + "└" + axis)
        words = "   ".join(legend)
        left, right = f"step {first}", str(last)
        gap = self._columns - len(left) - len(right)
        middle = words.center(gap) if gap > len(words) + 1 else " " * max(gap, 1)
        lines.append(f"{' ' * (self._margin + 2)}{left}{middle}{right}")
        return "\n".join(lines)
