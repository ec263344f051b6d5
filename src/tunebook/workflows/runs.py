"""List, filter, sort and group the runs of a book."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunebook.book.index import run_rows
from tunebook.book.places import RunFolder, left_out_runs, left_out_words
from tunebook.book.summary import measure
from tunebook.errors import BookError, UsageError, first_line
from tunebook.pages.groups import Group, group_heads, group_of, text_against
from tunebook.pages.table import (
    DEFAULT_COLUMNS,
    JSON_KEYS,
    NUMBERS,
    cell_text,
    column_value,
    csv_table,
    json_table,
    markdown_table,
    plain_table,
)
from tunebook.records import RunSummary
from tunebook.units import shorten

_FILTER = re.compile(r"([A-Za-z_][\w.-]*)\s*(<=|>=|!=|=|<|>)(.*)", re.DOTALL)
_ANOTHER = re.compile(r"(?:,|\s(?:or|and)\s)\s*[A-Za-z_][\w.-]*\s*[=!<>]", re.IGNORECASE)
_LONGEST_FILTER = 1000
_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_RANGE = re.compile(rf"^\s*([A-Za-z_][\w.-]*)\s*=\s*({_NUMBER})\.\.({_NUMBER})\s*$", re.IGNORECASE)
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class RunTable:
    """The chosen runs and columns; `book` holds every run by name, for what a row changed.

    `groups` are the rows by what they share, none when not asked for; `baseline` is the run that
    the others are held against.
    """

    rows: tuple[RunSummary, ...]
    columns: tuple[str, ...]
    book: Mapping[str, RunSummary]
    groups: tuple[Group, ...] = ()
    baseline: RunSummary | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What of a book is listed, and how.

    `filters` such as `method=lora`, `val_loss<2` or `lora.rank=8..32` must all hold. A column is a
    field of the summary or a dotted key of the settings. `sort` names one, with a minus in front
    for the largest first; unknown values come last either way. Rows that share the values of the
    columns `group` stand together. `baseline` is the name of a run.
    """

    filters: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    sort: str | None = None
    group: tuple[str, ...] = ()
    baseline: str | None = None


def list_runs(
    book: Path, query: Query, say: Callable[[str], None] = lambda _text: None
) -> RunTable:
    """List runs of a book; UsageError for a filter or a column that cannot be.

    `say` is told of each run that cannot be read, and of links, which are no runs of the book.
    """
    rows = run_rows(book)
    table = choose_runs([summary for summary, _ in rows.values()], query)
    for name, (_, measured) in rows.items():
        if not measured.read:
            say(f"run {name} cannot be read: {_why_unread(RunFolder(book, name))}")
    for link in left_out_runs(book):
        say(left_out_words(link))
    return table


def _why_unread(run: RunFolder) -> str:
    try:
        measure(run)
    except Exception as error:
        return first_line(error)
    return "it changed just now; list the runs again"


def choose_runs(summaries: Sequence[RunSummary], query: Query) -> RunTable:
    """List some of all the runs of a book, which the caller has summarized."""
    rows = summaries
    for text in (part for given in query.filters for part in bounds(given)):
        rows = _keep(rows, text, summaries)
    for column in (*query.columns, *query.group):
        _known(column, summaries)
    if query.sort:
        rows = _sorted(rows, query.sort, summaries)
    columns = query.columns or DEFAULT_COLUMNS
    groups = _grouped(rows, query.group, columns)
    by_name = {summary.name: summary for summary in summaries}
    if query.baseline and query.baseline not in by_name:
        raise BookError(
            f"there is no run `{query.baseline}` to hold the others against; name a run of the book"
        )
    return RunTable(
        tuple(row for group in groups for row in group.rows) if groups else tuple(rows),
        columns,
        by_name,
        groups,
        by_name[query.baseline] if query.baseline else None,
    )


def write_runs(table: RunTable, form: str) -> str:
    """Write a table of runs as `md`, `csv`, `json` or plain text.

    CSV and JSON hold one run a line and nothing that is worked out of others: neither means nor
    differences.
    """
    if form == "json":
        return json_table(table.rows, table.columns)
    if form == "csv":
        return csv_table(table.rows, table.columns)
    text = text_against(table.baseline)
    heads = group_heads(table.groups, table.columns)
    if form == "md":
        return markdown_table(table.rows, table.columns, table.book, text, heads)
    return plain_table(table.rows, table.columns, text, heads)


def bounds(text: str) -> list[str]:
    """Write `lora.rank=8..32` as the two filters it stands for; others stay as they are."""
    found = _RANGE.match(text) if len(text) <= _LONGEST_FILTER else None
    if found is None:
        return [text]
    return [f"{found[1]}>={found[2]}", f"{found[1]}<={found[3]}"]


def _grouped(
    rows: Sequence[RunSummary], keys: Sequence[str], columns: Sequence[str]
) -> tuple[Group, ...]:
    """Group rows by what they share, groups by their values; rows stay in their order."""
    if not keys:
        return ()
    sharing: dict[str, list[RunSummary]] = {}
    for row in rows:
        words = (f"{k} {cell_text(k, column_value(row, k)) or 'unknown'}" for k in keys)
        sharing.setdefault(", ".join(words), []).append(row)

    def place(label: str) -> list[tuple[bool, tuple[int, Any]]]:
        values = [column_value(sharing[label][0], key) for key in keys]
        return [(not _comparable(value), _sort_key(value)) for value in values]

    return tuple(group_of(label, sharing[label], columns) for label in sorted(sharing, key=place))


def _known(column: str, summaries: Sequence[RunSummary]) -> None:
    names = {*JSON_KEYS, *(key for summary in summaries for key in summary.config)}
    if column in names or not summaries:
        return
    import difflib

    near = difflib.get_close_matches(column, sorted(names), n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"there is {', '.join(JSON_KEYS)}"
    raise UsageError(f"no run has a column `{column}`; {hint}")


def _keep(
    rows: Sequence[RunSummary], text: str, summaries: Sequence[RunSummary]
) -> list[RunSummary]:
    found = _FILTER.fullmatch(text.strip()) if len(text) <= _LONGEST_FILTER else None
    if not found:
        raise UsageError(
            f"cannot read the filter `{shorten(text)}`; write it like val_loss<2, with "
            "one of = != < <= > >="
        )
    column, op, wanted = found[1], found[2], found[3].strip()
    if _ANOTHER.search(wanted):
        raise UsageError(
            f"the filter `{shorten(text)}` holds more than one; give them one at a time: all must "
            "hold, and there is no `or`"
        )
    _known(column, summaries)
    if op in _ORDER and _number(wanted) is None and _is_number(column, summaries):
        raise UsageError(
            f"`{column}` is a number, which `{shorten(wanted)}` is not; write it like {column}{op}2"
        )
    return [row for row in rows if _holds(column_value(row, column), op, wanted)]


def _is_number(column: str, summaries: Sequence[RunSummary]) -> bool:
    kinds = {type(column_value(row, column)) for row in summaries} - {type(None)}
    return kinds <= {int, float} if kinds else column in NUMBERS


def _holds(value: object, op: str, wanted: str) -> bool:
    if op in ("=", "!="):
        return _equal(value, wanted) == (op == "=")
    number = _number(wanted)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and number is not None:
        return _ORDER[op](float(value), number)
    return isinstance(value, str) and _ORDER[op](value, wanted)


def _equal(value: object, wanted: str) -> bool:
    if isinstance(value, (list, tuple)):
        return wanted in map(str, value) or (not wanted and not value)
    if value is None:
        return wanted in ("", "none", "~")
    if isinstance(value, bool):
        return wanted.lower() == str(value).lower()
    if isinstance(value, (int, float)):
        return _number(wanted) == float(value)
    return str(value) == wanted


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _sorted(
    rows: Sequence[RunSummary], sort: str, summaries: Sequence[RunSummary]
) -> list[RunSummary]:
    column = sort.removeprefix("-")
    _known(column, summaries)
    known = [row for row in rows if _comparable(column_value(row, column))]
    unknown = [row for row in rows if not _comparable(column_value(row, column))]
    known.sort(key=lambda row: _sort_key(column_value(row, column)), reverse=sort.startswith("-"))
    return known + unknown


def _comparable(value: object) -> bool:
    # NaN has no place in an order, so it stands with the unknown.
    return value is not None and value == value


def _sort_key(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, (int, float)) else (1, str(value))
