"""Runs that share a setting under one row with their mean, and differences from one run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunebook.book.liveness import ENDED
from tunebook.book.predictions import not_comparable
from tunebook.pages.table import (
    HIGHER_IS_BETTER,
    NUMBERS,
    CellText,
    cell_text,
    number_of,
    shown_text,
)
from tunebook.records import RunSummary

MEASURED = tuple(name for name in NUMBERS if name not in ("best_step", "step", "steps"))
"""Columns that are averaged over a group, and held against those of another run."""

_NEITHER = ("base_val_loss",)


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of `n` known values; `spread` is their standard deviation, None for one value."""

    n: int
    mean: float
    spread: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that share a value; `means` by column, `mixed` columns whose values do not compare."""

    label: str
    rows: tuple[RunSummary, ...]
    means: Mapping[str, Mean]
    mixed: frozenset[str]


def group_of(label: str, rows: Sequence[RunSummary], columns: Sequence[str]) -> Group:
    """Average the measured columns of some runs; losses on different examples have no mean."""
    means, mixed = {}, set()
    for column in columns:
        known = [row for row in rows if number_of(row, column) is not None]
        if column not in MEASURED or not known:
            continue
        if any(not_comparable(column, column, known[0], row) for row in known[1:]):
            mixed.add(column)
        else:
            means[column] = _mean([number_of(row, column) or 0.0 for row in known])
    return Group(label, tuple(rows), means, frozenset(mixed))


def _mean(values: Sequence[float]) -> Mean:
    n = len(values)
    if not all(map(math.isfinite, values)):
        return Mean(n, sum(values) / n, None)
    mean = math.fsum(values) / n
    if n == 1:
        return Mean(n, mean, None)
    return Mean(n, mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)))


def mean_words(group: Group, column: str) -> tuple[str, str]:
    """Write the mean of a column; and its spread, and of how many where some are unknown."""
    if column in group.mixed:
        return "", "do not compare"
    found = group.means.get(column)
    if found is None:
        return "", ""
    rest = [] if found.spread is None else [f"SD {cell_text(column, found.spread)}"]
    rest += [f"n {found.n}"] if found.n < len(group.rows) else []
    return cell_text(column, found.mean), ", ".join(rest)


def group_cells(group: Group, columns: Sequence[str]) -> list[str]:
    """Write the row above a group: what it shares, how many it has, its means."""
    head = f"{group.label} (n = {len(group.rows)})"
    words = (mean_words(group, column) for column in columns[1:])
    return [head, *(f"{mean} ({rest})" if mean and rest else mean or rest for mean, rest in words)]


def group_heads(groups: Sequence[Group], columns: Sequence[str]) -> dict[str, list[str]]:
    """Give the row above each group, by the name of the group's first run."""
    return {group.rows[0].name: group_cells(group, columns) for group in groups}


def difference(row: RunSummary, column: str, baseline: RunSummary | None) -> float | None:
    """Give what a run measured less what the baseline did; None where the two do not compare."""
    if baseline is None or baseline.name == row.name or column not in MEASURED:
        return None
    own, other = number_of(row, column), number_of(baseline, column)
    if own is None or other is None or not math.isfinite(own) or not math.isfinite(other):
        return None
    return None if not_comparable(column, column, row, baseline) else own - other


def difference_text(column: str, change: float) -> str:
    """Write a difference with its sign."""
    return ("-" if change < 0 else "+") + cell_text(column, abs(change))


def text_against(baseline: RunSummary | None) -> CellText:
    """Give what writes cells, with the difference from the baseline where there is one."""

    def text(row: RunSummary, column: str) -> str:
        change = difference(row, column, baseline)
        shown = shown_text(row, column)
        return shown if change is None else f"{shown} ({difference_text(column, change)})"

    return text


def is_better(column: str, row: RunSummary, baseline: RunSummary) -> bool | None:
    """Tell whether a run is better than the baseline; None where it is not, or cannot be told.

    Of a run that goes on, or that broke off, no number is its last; a training loss is of the data
    that it was measured on.
    """
    change = difference(row, column, baseline)
    if change is None or column in _NEITHER or {row.state, baseline.state} - set(ENDED):
        return None
    if cell_text(column, abs(change)) == cell_text(column, 0.0 * change):
        return None
    if column == "train_loss" and _data(row) != _data(baseline):
        return None
    return (change > 0) == (column in HIGHER_IS_BETTER)


def _data(row: RunSummary) -> object:
    return {key: value for key, value in row.config.items() if key.startswith("data.")}
