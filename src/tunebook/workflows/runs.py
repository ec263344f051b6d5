"""List, filter and sort the runs of a book."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunebook.book.index import run_summaries
from tunebook.errors import UsageError
from tunebook.pages.table import DEFAULT_COLUMNS, JSON_KEYS, column_value
from tunebook.records import RunSummary

_FILTER = re.compile(r"^\s*([A-Za-z_][\w.-]*)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*$")
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class RunTable:
    """The chosen runs and columns; `book` holds every run by name, for what a row changed."""

    rows: tuple[RunSummary, ...]
    columns: tuple[str, ...]
    book: Mapping[str, RunSummary]


def list_runs(
    book: Path,
    filters: Sequence[str] = (),
    columns: Sequence[str] = (),
    sort: str | None = None,
) -> RunTable:
    """List runs: `filters` such as `method=lora` or `val_loss<2` must all hold.

    A column is a field of the summary or a dotted key of the settings. `sort` names one, with a
    minus in front for the largest first; unknown values come last either way.
    """
    summaries = run_summaries(book)
    rows = summaries
    for text in filters:
        rows = _keep(rows, text, summaries)
    for column in columns:
        _known(column, summaries)
    if sort:
        rows = _sorted(rows, sort, summaries)
    return RunTable(
        tuple(rows),
        tuple(columns) or DEFAULT_COLUMNS,
        {summary.name: summary for summary in summaries},
    )


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
    found = _FILTER.match(text)
    if not found:
        raise UsageError(
            f"cannot read the filter `{text}`; write it like method=lora or val_loss<2, with one "
            "of = != < <= > >="
        )
    column, op, wanted = found.groups()
    _known(column, summaries)
    return [row for row in rows if _holds(column_value(row, column), op, wanted)]


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
