"""Rows of the table of runs; those of which nothing is new are as they were written before."""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment
from markupsafe import Markup

from tunebook.book.predictions import not_comparable
from tunebook.book.run_file import config_parent
from tunebook.book.summary import Measured
from tunebook.kinds import KINDS
from tunebook.pages.groups import MEASURED, difference, difference_text, is_better, mean_words
from tunebook.pages.table import changed_columns, differing, shown_text
from tunebook.pages.verdicts import found_in_short
from tunebook.records import RunSummary
from tunebook.workflows.runs import RunTable

if TYPE_CHECKING:
    from tunebook.web.runs import View

MOST_TABLES = 4
"""Of so many views the rows are kept; those of 2,000 runs hold four megabytes."""

_WIDE, _HIGH = 80, 22


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell: `change` is the difference from the baseline, `why` there is none."""

    column: str
    text: str
    changed: bool = False
    change: str | None = None
    better: bool | None = None
    why: str | None = None


class Rows:
    """The rows of tables as HTML, each kept while the summaries that it shows are the same."""

    def __init__(self) -> None:
        self._tables: OrderedDict[Hashable, dict[str, tuple[tuple[object, ...], Markup]]] = (
            OrderedDict()
        )
        self._settings: tuple[list[Mapping[str, Any]], list[str]] = [], []

    def settings(self, summaries: Sequence[RunSummary]) -> list[str]:
        """List the settings in which runs are not all the same; looked for when one changed."""
        configs = [summary.config for summary in summaries]
        known, found = self._settings
        if len(known) != len(configs) or any(
            a is not b and a != b for a, b in zip(known, configs, strict=True)
        ):
            found = differing(summaries)
        self._settings = configs, found
        return found

    def write(
        self,
        environment: Environment,
        view: View,
        table: RunTable,
        numeric: set[str],
        measured: Mapping[str, tuple[RunSummary, Measured]],
    ) -> list[Markup]:
        """Write the rows of a table, heads of groups among them; each is HTML."""
        key = view, frozenset(numeric)
        were, now = self._tables.get(key, {}), {}
        macros: Any = environment.get_template("_runs_row.html").module
        heads = {group.rows[0].name: group for group in table.groups}
        editable = "note" not in table.columns
        found: list[Markup] = []
        for run in table.rows:
            if group := heads.get(run.name):
                means = [mean_words(group, column) for column in table.columns]
                found.append(macros.head(group, means, editable))
            parent = table.book.get(config_parent(run.config) or "")
            of = (run, measured[run.name][1], parent, table.baseline)
            was = were.get(run.name)
            if was is None or any(a is not b for a, b in zip(was[0], of, strict=True)):
                changed = changed_columns(run, table.columns, table.book)
                cells = [_cell(table, run, column, column in changed) for column in table.columns]
                spark = spark_paths(tuple(measured[run.name][1].sparks))
                chips = verdict_chips(run)
                was = (
                    of,
                    macros.row(run, cells, chips, spark, view, numeric, table.baseline, editable),
                )
            now[run.name] = was
            found.append(was[1])
        self._tables[key] = now
        self._tables.move_to_end(key)
        while len(self._tables) > MOST_TABLES:
            self._tables.popitem(last=False)
        return found


def _cell(table: RunTable, run: RunSummary, column: str, changed: bool) -> Cell:
    text = shown_text(run, column)
    other = table.baseline
    if other is None or other.name == run.name or column not in MEASURED or not text:
        return Cell(column, text, changed)
    change = difference(run, column, other)
    if change is None:
        return Cell(column, text, why=not_comparable(column, column, run, other))
    return Cell(column, text, False, difference_text(column, change), is_better(column, run, other))


def verdict_chips(run: RunSummary) -> list[tuple[str, str, str]]:
    """Give the faults of a run, or that there are none, as words, a class and a meaning."""
    chips = []
    for words in found_in_short(run):
        kind = words.rstrip("?").replace(" ", "_")
        amber = kind in run.amber
        level = "good" if kind == "no_fault_found" else "warn" if amber else "bad"
        chips.append((words, level, KINDS[kind].meaning + " (not confirmed)" * amber))
    return chips


@functools.lru_cache(4096)
def spark_paths(sparks: tuple[tuple[float, float], ...]) -> tuple[str, str] | None:
    """Draw a small curve: the band between lowest and highest of each share, and words for it."""
    if not sparks:
        return None
    low, high = min(a for a, _ in sparks), max(b for _, b in sparks)
    scale = (_HIGH - 3) / ((high - low) or math.inf)
    step = (_WIDE - 2) / max(len(sparks) - 1, 1)

    def point(i: int, value: float) -> str:
        return f"{1 + i * step:.1f} {_HIGH - 1.5 - (value - low) * scale:.1f}"

    # Up and down again: a share with one value is a line, one with a spike a peak.
    tops = [point(i, b) for i, (_, b) in enumerate(sparks)]
    bottoms = [point(i, a) for i, (a, _) in enumerate(sparks)]
    path = "M" + "L".join([*tops, *reversed(bottoms)]) + "Z"
    first, last = sparks[0][1], sparks[-1][0]
    return path, f"training loss from {first:.3g} to {last:.3g}, highest {high:.3g}"
