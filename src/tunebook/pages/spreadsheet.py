"""Tables as CSV that a spreadsheet opens: what is text stays text there."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

_FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""A cell that begins so is worked out by spreadsheets, which may start a program or ask a host."""
_NUMBER = re.compile(r"[+-]?(\d[\d,]{0,400}\.?\d{0,400}|\.\d{1,400})([eE][+-]?\d{1,9})?", re.ASCII)


def write_csv(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Write a table as CSV.

    Text that a spreadsheet would take for a formula gets a `'` in front.

    Numbers stay as they are, also those that are text already; line ends become `\n`.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in (head, *rows):
        writer.writerow([_no_formula(cell) for cell in row])
    return out.getvalue()


def _no_formula(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    # csv leaves a cell with a lone \r unquoted, and whoever reads it begins a row there.
    text = cell.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
