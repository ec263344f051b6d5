"""The run table: one query, the same cells in the terminal, on the page, as CSV and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import orjson

from tunebook.book.codec import to_plain
from tunebook.book.run_file import config_parent
from tunebook.pages.markdown import escape, table
from tunebook.pages.spreadsheet import write_csv
from tunebook.pages.verdicts import found_in_short
from tunebook.records import RunSummary
from tunebook.units import format_bytes, format_number, format_seconds

JSON_KEYS = (
    "name",
    "state",
    "model",
    "stage",
    "method",
    "parents",
    "train_loss",
    "val_loss",
    "perplexity",
    "judge",
    "device",
    "peak_memory_bytes",
    "verdicts",
    "outcome",
    "started",
    "seconds",
    "bits_per_byte",
    "base_val_loss",
    "best_val_loss",
    "best_step",
    "examples_hash",
    "step",
    "steps",
    "hypothesis",
    "tags",
    "note",
)
"""The keys of `--json`; scripts rely on the first sixteen."""

_FIELDS = frozenset(JSON_KEYS)  # every cell of every run looks here

DEFAULT_COLUMNS = (
    "name",
    "state",
    "model",
    "method",
    "train_loss",
    "val_loss",
    "perplexity",
    "verdicts",
    "outcome",
    "started",
    "seconds",
)
NUMBERS = (
    "train_loss",
    "val_loss",
    "perplexity",
    "judge",
    "peak_memory_bytes",
    "seconds",
    "bits_per_byte",
    "base_val_loss",
    "best_val_loss",
    "best_step",
    "step",
    "steps",
)
HIGHER_IS_BETTER = ("judge",)
"""Of these the higher value is the better one, of all other numbers the lower."""

_SETTINGS = ("model", "stage", "method")


def column_value(summary: RunSummary, column: str) -> object:
    """Look a column up: a field of the summary, else a dotted key of the run's settings."""
    return getattr(summary, column) if column in _FIELDS else summary.config.get(column)


def differing(summaries: Sequence[RunSummary]) -> list[str]:
    """List the settings that are not the same in all runs, as words; unstated ones are left out."""
    first: dict[str, object] = {}
    found: dict[str, None] = {}
    for summary in summaries:
        for key, value in summary.config.items():
            if key not in found:
                known = first.setdefault(key, value)
                alike = known is value or (type(known) is type(value) and known == value)
                if not alike and str(known) != str(value):
                    found[key] = None
    return list(found)


def number_of(summary: RunSummary, column: str) -> float | None:
    """Give a column that is a number; None where it is unknown or something else."""
    value = column_value(summary, column)
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if known else None  # type: ignore[return-value]


def cell_text(column: str, value: object) -> str:
    """Write a value as people read it; unknown is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if column == "started" and isinstance(value, str):
        return value[:16].replace("T", " ")
    if isinstance(value, (int, float)):
        if column.endswith("_bytes"):
            return format_bytes(value)
        if column == "seconds":
            return format_seconds(value)
        return (
            format_number(value) if column in NUMBERS and isinstance(value, float) else f"{value}"
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(cell_text("", item) for item in value)
    return str(value)


def shown_text(summary: RunSummary, column: str) -> str:
    """Write a column of a run as people read it; of verdicts the faults, `?` where unconfirmed."""
    short = found_in_short(summary) if column == "verdicts" else column_value(summary, column)
    return cell_text(column, short)


CellText = Callable[[RunSummary, str], str]
NO_HEADS: Mapping[str, Sequence[str]] = {}


def markdown_table(
    summaries: Sequence[RunSummary],
    columns: Sequence[str],
    book: Mapping[str, RunSummary],
    text: CellText = shown_text,
    heads: Mapping[str, Sequence[str]] = NO_HEADS,
) -> str:
    """Write the table as Markdown; settings that differ from the extended run are bold.

    `heads` has the cells of a row to stand above a run, by the run's name.
    """
    rows = []
    for summary in summaries:
        if summary.name in heads:
            rows.append(
                [f"**{cell}**" if cell else "" for cell in map(escape, heads[summary.name])]
            )
        changed = changed_columns(summary, columns, book)
        row = []
        for column in columns:
            cell = escape(text(summary, column))
            row.append(f"**{cell}**" if column in changed and cell else cell)
        rows.append(row)
    return table(columns, rows, right=[c for c in columns if c in NUMBERS])


def changed_columns(
    summary: RunSummary, columns: Sequence[str], book: Mapping[str, RunSummary]
) -> set[str]:
    """Name the columns of settings in which a run differs from the one it extends.

    A new run states only what it changes; what it does not state is inherited, not changed.
    """
    parent = book.get(config_parent(summary.config) or "")
    if parent is None or parent.name == summary.name:
        return set()
    return {
        column
        for column in columns
        if (column in _SETTINGS or column not in JSON_KEYS)
        and (summary.state != "new" or column in summary.config)
        and column_value(summary, column) != column_value(parent, column)
    }


def csv_table(summaries: Sequence[RunSummary], columns: Sequence[str]) -> str:
    """Write the table as CSV with plain values; several in one cell are joined by spaces."""
    return write_csv(
        columns,
        (
            [_csv_value(column_value(summary, column)) for column in columns]
            for summary in summaries
        ),
    )


def _csv_value(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value)
    return to_plain(value)


def plain_table(
    summaries: Sequence[RunSummary],
    columns: Sequence[str],
    text: CellText = shown_text,
    heads: Mapping[str, Sequence[str]] = NO_HEADS,
) -> str:
    """Write the table as aligned lines for a pipe, `heads` above the runs they name."""
    cells = [list(columns)]
    for summary in summaries:
        cells += [list(heads[summary.name])] if summary.name in heads else []
        cells.append([text(summary, column) for column in columns])
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in NUMBERS else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines) + "\n"


def json_table(summaries: Sequence[RunSummary], columns: Sequence[str] = ()) -> str:
    """Write the runs as a JSON list; columns that are settings are added under their dotted key."""
    rows = [_json_row(summary, columns) for summary in summaries]
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(rows, option=option).decode()


def summary_json(summary: RunSummary) -> str:
    """Write one run as a JSON object."""
    return orjson.dumps(_json_row(summary, ()), option=orjson.OPT_INDENT_2).decode()


def _json_row(summary: RunSummary, columns: Sequence[str]) -> dict[str, object]:
    keys = (*JSON_KEYS, *(c for c in columns if c not in JSON_KEYS))
    return {key: to_plain(column_value(summary, key)) for key in keys}
