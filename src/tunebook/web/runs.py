"""The table of all runs: chosen, sorted, filtered, grouped and held against one of them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from starlette.datastructures import QueryParams

from tunebook.book.summary import Measured
from tunebook.pages.table import DEFAULT_COLUMNS, JSON_KEYS, NUMBERS, column_value
from tunebook.records import RunSummary
from tunebook.web.desk import Desk, desk_of
from tunebook.web.kept import Written
from tunebook.workflows.runs import Query, RunTable, choose_runs, write_runs

router = APIRouter()

_GROUPED_BY = ("state", "model", "stage", "method", "outcome", "device")
_NOT_SETTINGS = ("notebook.", "name", "extends")
_MEDIA = {"md": "text/markdown", "csv": "text/csv", "json": "application/json"}


_MOST_LEFT_OUT = 20
"""Links that are no runs are named one by one up to so many."""

_SHORT = 500
"""Characters of a view whose links are kept: all of them together hold a few megabytes at most."""


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
        if len(text) + sum(len(v) for _, v in self.pairs()) + sum(map(len, self.chosen)) > _SHORT:
            return _filter_link.__wrapped__(self, text)
        return _filter_link(self, text)

    def without_filter(self, text: str) -> str:
        """Filter by one thing less."""
        return self.link(filters=tuple(f for f in self.query.filters if f != text))


@functools.lru_cache(1024)
def _filter_link(view: View, text: str) -> str:
    # Every row of a table links its tags.
    return view.link(filters=(*dict.fromkeys((*view.query.filters, text)),))


@router.get("/")
def runs(request: Request) -> Response:
    """Show the runs of the book."""
    desk = desk_of(request)
    view = view_of(request.query_params)
    measured = desk.shelf.measured()
    left_out = desk.shelf.left_out()
    found = desk.kept.page(
        ("/", view),
        (measured, desk.shelf.reading, "\n".join(left_out)),
        lambda: _write(desk, request, view, measured, left_out),
    )
    if request.query_params.get("seen") == found.seen:
        return Response(status_code=204)
    answer = HTMLResponse(found.body)
    if request.headers.get("hx-trigger") != "runs-poll":
        # A form sends its empty fields, too; the address of what is shown has none.
        answer.headers["HX-Push-Url"] = "/" + view.link()
    return answer


def _write(
    desk: Desk,
    request: Request,
    view: View,
    measured: Mapping[str, tuple[RunSummary, Measured]],
    left_out: Sequence[str],
) -> Written:
    summaries = [summary for summary, _ in measured.values()]
    table = choose_runs(summaries, view.query)
    settings = sorted(
        key
        for key in desk.rows.settings(summaries)
        if key not in JSON_KEYS and not key.startswith(_NOT_SETTINGS)
    )
    numeric = _numeric(table)
    rows = desk.rows.write(desk.environment, view, table, numeric, measured)
    n_running = sum(run.state == "running" for run in table.rows)
    shown = hashlib.sha256("".join(rows).encode())
    shown.update(f"{len(summaries)} {n_running} {table.baseline and table.baseline.name}".encode())
    shown.update("\n".join(left_out).encode("utf-8", "replace"))
    seen = shown.hexdigest()[:12]
    page = desk.render(
        request,
        "runs.html",
        view=view,
        table=table,
        columns=table.columns,
        numeric=numeric,
        rows=rows,
        seen=seen,
        left_out=left_out[:_MOST_LEFT_OUT],
        n_more_left_out=max(len(left_out) - _MOST_LEFT_OUT, 0),
        n_all=len(summaries),
        n_running=n_running,
        fields=[(name, name in table.columns) for name in JSON_KEYS],
        settings=[(name, name in table.columns) for name in settings],
        group_keys=list(dict.fromkeys((*_GROUPED_BY, *settings, *view.query.group))),
        names=[summary.name for summary in summaries],
    )
    return Written(page.encode("utf-8"), seen)


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


def _numeric(table: RunTable) -> set[str]:
    """Name the columns of numbers, which stand to the right."""
    settings = [column for column in table.columns if column not in JSON_KEYS]
    return {column for column in table.columns if column in NUMBERS} | {
        column
        for column in settings
        if any(type(column_value(row, column)) in (int, float) for row in table.rows)
    }
