"""The table of all runs: chosen, sorted, filtered, grouped and held against one of them."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.datastructures import QueryParams

from tunebook.book.predictions import not_comparable
from tunebook.kinds import KINDS
from tunebook.pages.groups import (
    MEASURED,
    Group,
    difference,
    difference_text,
    is_better,
    mean_words,
)
from tunebook.pages.table import (
    DEFAULT_COLUMNS,
    JSON_KEYS,
    NUMBERS,
    changed_columns,
    column_value,
    shown_text,
)
from tunebook.pages.verdicts import found_in_short
from tunebook.records import RunSummary
from tunebook.web.desk import desk_of
from tunebook.workflows.runs import Query, RunTable, choose_runs, write_runs

router = APIRouter()

_GROUPED_BY = ("state", "model", "stage", "method", "outcome", "device")
_NOT_SETTINGS = ("notebook.", "name", "extends")
_MEDIA = {"md": "text/markdown", "csv": "text/csv", "json": "application/json"}
_WIDE, _HIGH = 80, 22


@dataclass(frozen=True, slots=True)
class View:
    """What a table was asked for: the query of the list, and the runs that are chosen in it."""

    query: Query
    chosen: tuple[str, ...] = ()

    def link(self, **changes: object) -> str:
        """Write the query of an address with some of it changed."""
        changed = View(replace(self.query, **changes))  # type: ignore[arg-type]
        return "?" + urlencode(changed.pairs(), safe=",=")

    def pairs(self) -> list[tuple[str, str]]:
        """Give the names and values of the query."""
        query = self.query
        return [
            *(("filter", text) for text in query.filters),
            *([("columns", ",".join(query.columns))] if query.columns else []),
            *([("sort", query.sort)] if query.sort else []),
            *(("group", key) for key in query.group),
            *([("baseline", query.baseline)] if query.baseline else []),
        ]

    def sort_link(self, column: str) -> str:
        """Sort by a column, the other way round if the table is sorted by it."""
        return self.link(sort=f"-{column}" if self.query.sort == column else column)

    def filter_link(self, text: str) -> str:
        """Filter by one thing more."""
        return self.link(filters=(*dict.fromkeys((*self.query.filters, text)),))

    def without_filter(self, text: str) -> str:
        """Filter by one thing less."""
        return self.link(filters=tuple(f for f in self.query.filters if f != text))


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell: `change` is the difference from the baseline, `why` there is none."""

    column: str
    text: str
    changed: bool = False
    change: str | None = None
    better: bool | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A run of the table; with `group` and `means`, the first one under that head."""

    run: RunSummary
    cells: Sequence[Cell]
    chips: Sequence[tuple[str, str, str]]
    spark: tuple[str, str] | None
    group: Group | None = None
    means: Sequence[tuple[str, str]] = ()


@router.get("/")
def runs(request: Request) -> Response:
    """Show the runs of the book."""
    desk = desk_of(request)
    view = view_of(request.query_params)
    measured = desk.shelf.measured()
    summaries = [summary for summary, _ in measured.values()]
    table = choose_runs(summaries, view.query)
    settings = varying_settings(summaries)
    shown = [(run, measured[run.name][1].sparks) for run in table.rows]
    seen = hashlib.sha256(repr((shown, table.baseline, len(summaries))).encode()).hexdigest()[:12]
    if request.query_params.get("seen") == seen:
        return Response(status_code=204)
    heads = {group.rows[0].name: group for group in table.groups}
    answer = desk.page(
        request,
        "runs.html",
        view=view,
        table=table,
        columns=table.columns,
        numeric=_numeric(table),
        rows=[_row(table, run, sparks, heads.get(run.name)) for run, sparks in shown],
        seen=seen,
        n_all=len(summaries),
        n_running=sum(run.state == "running" for run in table.rows),
        fields=[(name, name in table.columns) for name in JSON_KEYS],
        settings=[(name, name in table.columns) for name in settings],
        group_keys=list(dict.fromkeys((*_GROUPED_BY, *settings, *view.query.group))),
        names=[summary.name for summary in summaries],
    )
    if request.headers.get("hx-trigger") != "runs-poll":
        # A form sends its empty fields, too; the address of what is shown has none.
        answer.headers["HX-Push-Url"] = "/" + view.link()
    return answer


@router.get("/runs.{form}")
def export(request: Request, form: Literal["md", "csv", "json"]) -> Response:
    """Give the same table as Markdown, CSV or JSON, as `tunebook runs` writes it."""
    summaries = list(desk_of(request).shelf.summaries(whole=True).values())
    table = choose_runs(summaries, view_of(request.query_params).query)
    return PlainTextResponse(write_runs(table, form), media_type=_MEDIA[form])


def view_of(asked: QueryParams) -> View:
    """Read from the query of an address what a table shows."""

    def listed(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for text in asked.getlist(name) if text.strip()))

    named = ",".join(listed("columns")).split(",")
    columns = tuple(dict.fromkeys(name.strip() for name in named if name.strip()))
    query = Query(
        listed("filter"),
        columns if columns != DEFAULT_COLUMNS else (),
        asked.get("sort") or None,
        listed("group"),
        asked.get("baseline") or None,
    )
    return View(query, listed("run"))


def varying_settings(summaries: Sequence[RunSummary]) -> list[str]:
    """List the settings in which the runs of a book are not all the same."""
    values: dict[str, set[str]] = {}
    for summary in summaries:
        for key, value in summary.config.items():
            values.setdefault(key, set()).add(str(value))
    return sorted(
        key
        for key, found in values.items()
        if len(found) > 1 and key not in JSON_KEYS and not key.startswith(_NOT_SETTINGS)
    )


def _numeric(table: RunTable) -> set[str]:
    """Name the columns of numbers, which stand to the right."""
    return {
        column
        for column in table.columns
        if column in NUMBERS
        or any(type(column_value(row, column)) in (int, float) for row in table.rows)
    }


def _row(
    table: RunTable, run: RunSummary, sparks: Sequence[tuple[float, float]], group: Group | None
) -> Row:
    changed = changed_columns(run, table.columns, table.book)
    return Row(
        run,
        [_cell(table, run, column, column in changed) for column in table.columns],
        verdict_chips(run),
        spark_paths(tuple(sparks)),
        group,
        [mean_words(group, column) for column in table.columns] if group else (),
    )


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
