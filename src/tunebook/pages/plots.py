"""What stands where in a figure of a run, or of several; this file alone draws with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from tunebook.pages.downsample import chosen_points
from tunebook.pages.figure_colours import BAD, FAINT, HELD_OUT, INK, RULE, SERIES, TRAIN
from tunebook.pages.run_curves import RunCurves

_BUCKETS, _FEWER = 300, 200
_CROSSES = 120
_LABEL_ROWS = 3
_WIDTH, _LEFT, _RIGHT = 8.0, 0.72, 0.15  # inches, as all sizes here
_LETTER = 0.072
_LOG_FROM = 30.0
"""Values that span more than this factor are drawn on a logarithmic axis."""


def settings(salt: str) -> dict[str, Any]:
    """Give the settings that a figure is drawn under; ids in an SVG are made with `salt`."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "pdf.fonttype": 42,
        # A vertex left out could be the tip of a spike.
        "path.simplify": False,
        "font.family": "sans-serif",
        "font.size": 8.5,
        "text.color": INK,
        "axes.edgecolor": RULE,
        "axes.facecolor": "none",
        "axes.labelcolor": FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.formatter.use_mathtext": False,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "lines.linewidth": 0.9,
        "legend.frameon": False,
    }


# --- one run --------------------------------------------------------------------------------------


def draw_run(figure: Figure, run: RunCurves) -> None:
    """Draw losses with their flags, and below them the learning rate and the gradient norm."""
    below = [
        (name, column)
        for name, column in (
            ("learning rate", run.learning_rates),
            ("gradient norm", run.grad_norms),
        )
        if any(math.isfinite(value) for value in column)
    ]
    every = [*run.steps, *(step for step, _, _ in run.held_out)]
    first, last = min(every), max(every)
    labels, rows = _place_flags(run.flags, first, last)
    panels = _panels(figure, 0.58 + 0.16 * rows, [2.5, *[0.75] * len(below)])
    loss = panels[0]
    figure.text(_LEFT / _WIDTH, 1 - 0.2 / figure.get_figheight(), run.name, weight="bold", size=10)
    crosses = _draw_losses(loss, run, TRAIN, HELD_OUT)
    for panel, (name, column) in zip(panels[1:], below, strict=True):
        _draw_column(panel, run.steps, column, FAINT, _FEWER)
        _finish_values(panel, name, column)
    _finish_values(loss, "loss", [*run.losses, *(v for _, v, _ in run.held_out)])
    if crosses:
        loss.plot([], [], "x", color=BAD, label="not finite")
    for panel in panels:
        for _, start, end in run.flags:
            panel.axvline(start, color=BAD, linewidth=0.7, dashes=(3, 2))
            if end > start:
                panel.axvspan(start, end, color=BAD, alpha=0.08, linewidth=0)
    for text, at, row, side in labels:
        height = 1.0 + (0.24 + 0.16 * row) / 2.5
        loss.text(at, height, text, transform=loss.get_xaxis_transform(), color=BAD, ha=side)
    where = [start for _, start, _ in run.flags]
    if where:
        at = loss.get_xaxis_transform()
        loss.plot(where, [0] * len(where), "^", color=BAD, transform=at, clip_on=False, zorder=5)
    _finish_steps(panels, first, last)
    _legend(figure, loss)


def _draw_losses(panel: Any, run: RunCurves, color: str, held_out: str) -> bool:
    """Draw training, validation and what is not finite; tells whether there was any of that."""
    if run.steps:
        _draw_column(panel, run.steps, run.losses, color, label="training")
    checks = [(s, v, i) for s, v, i in run.held_out if math.isfinite(v)]
    if checks:
        steps = [step for step, _, _ in checks]
        panel.plot(
            steps, [v for _, v, _ in checks], "o-", color=held_out, markersize=3, linewidth=1.3,
            label="validation, 95 % interval" if any(i for _, _, i in checks) else "validation",
        )  # fmt: skip
        bands = [interval or (math.nan, math.nan) for _, _, interval in checks]
        low, high = ([band[i] for band in bands] for i in (0, 1))
        panel.fill_between(steps, low, high, color=held_out, alpha=0.18, linewidth=0)
    broken = [s for s, v in zip(run.steps, run.losses, strict=True) if not math.isfinite(v)]
    broken += [step for step, value, _ in run.held_out if not math.isfinite(value)]
    wide = max(run.steps[-1] - run.steps[0], 1) if run.steps else 1
    broken = list({step * _CROSSES // wide: step for step in broken}.values())
    at = panel.get_xaxis_transform()
    panel.plot(broken, [1] * len(broken), "x", color=BAD, transform=at, clip_on=False, zorder=5)
    return bool(broken)


def _draw_column(
    panel: Any,
    steps: Sequence[int],
    column: Sequence[float],
    color: str,
    buckets: int = _BUCKETS,
    **more: Any,
) -> None:
    y = np.array(column, dtype=np.float64)
    kept = chosen_points(y, buckets)
    panel.plot(np.array(steps, dtype=np.float64)[kept], y[kept], color=color, **more)


def _place_flags(
    flags: Sequence[tuple[str, int, int]], first: int, last: int
) -> tuple[list[tuple[str, int, int, str]], int]:
    """Put the names of flags in rows above the plot, none over another; also counts the rows.

    Gives (text, step, row, which side of the text stands at the step). Where the rows are full,
    the last name says how many more there are.
    """
    across = _WIDTH - _LEFT - _RIGHT
    left_out = 0
    taken: list[list[tuple[float, float]]] = []
    placed: list[tuple[str, int, int, str]] = []
    for kind, step, _ in sorted(flags, key=lambda flag: flag[1]):
        at = across * (step - first) / max(last - first, 1)
        width = len(kind) * _LETTER
        side = "left" if at + width <= across else "right"
        span = (at, at + width) if side == "left" else (at - width, at)
        row = next(
            (
                i
                for i, spans in enumerate(taken)
                if all(span[1] < a - 0.1 or span[0] > b + 0.1 for a, b in spans)
            ),
            len(taken),
        )
        if row == _LABEL_ROWS:
            left_out += 1
            continue
        if row == len(taken):
            taken.append([])
        taken[row].append(span)
        placed.append((kind, step, row, side))
    if left_out:
        kind, step, row, side = placed[-1]
        placed[-1] = f"{kind} and {left_out} more", step, row, side
    return placed, len(taken)


# --- several runs ---------------------------------------------------------------------------------


def draw_overlay(figure: Figure, runs: Sequence[RunCurves]) -> None:
    """Draw the losses of several runs over each other."""
    (panel,) = _panels(figure, 0.34 + 0.17 * math.ceil(len(runs) / 4), [3.6])
    shown = [run for run in runs if run.drawable()]
    for run, color in zip(runs, SERIES, strict=False):
        if run.steps:
            _draw_column(panel, run.steps, run.losses, color, alpha=0.35)
        checks = [(s, v) for s, v, _ in run.held_out if math.isfinite(v)]
        x, y = ([pair[i] for pair in checks] for i in (0, 1))
        panel.plot(x, y, "o-", markersize=3, color=color)
        panel.plot([], [], color=color, linewidth=2, label=run.name)
    values = [v for run in shown for v in (*run.losses, *(v for _, v, _ in run.held_out))]
    _finish_values(panel, "loss: thin training, dots validation", values)
    every = [s for run in shown for s in (*run.steps, *(step for step, _, _ in run.held_out))]
    _finish_steps([panel], min(every, default=0), max(every, default=1))
    _legend(figure, panel, columns=4)


# --- axes -----------------------------------------------------------------------------------------


def _panels(figure: Figure, head: float, heights: Sequence[float]) -> list[Any]:
    gap, foot = 0.3, 0.42
    whole = head + sum(heights) + gap * (len(heights) - 1) + foot
    figure.set_size_inches(_WIDTH, whole)
    panels, top = [], whole - head
    for height in heights:
        top -= height
        box = (_LEFT / _WIDTH, top / whole, 1 - (_LEFT + _RIGHT) / _WIDTH, height / whole)
        panels.append(figure.add_axes(box))
        top -= gap
    return panels


def _finish_values(panel: Any, name: str, values: Sequence[float]) -> None:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        panel.set_yticks([])
        name += ": not one finite value"
    elif min(known) > 0 and max(known) / min(known) > _LOG_FROM and name != "learning rate":
        panel.set_yscale("log")
        panel.yaxis.set_minor_formatter(NullFormatter())
        name += " (logarithmic)"
    else:
        panel.yaxis.set_major_locator(MaxNLocator(6 if name.startswith("loss") else 3))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.annotate(
        name, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points",
        color=FAINT, va="bottom",
    )  # fmt: skip


def _finish_steps(panels: Sequence[Any], first: int, last: int) -> None:
    margin = max((last - first) * 0.01, 0.5)
    for panel in panels:
        panel.set_xlim(first - margin, last + margin)
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        panel.tick_params(length=0, labelbottom=panel is panels[-1])
    panels[-1].set_xlabel("step")


def _legend(figure: Figure, panel: Any, columns: int = 3) -> None:
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        right = 1 - _RIGHT / _WIDTH
        figure.legend(
            handles, labels, loc="upper right", ncols=columns, bbox_to_anchor=(right, 1.0),
            handlelength=1.4, columnspacing=1.4, labelcolor=INK,
        )  # fmt: skip
