"""Markdown that no text inside it can break out of."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"([\\`*\[\]|<>])")
_TICKS = re.compile(r"`+")


def fence(text: str, language: str = "") -> str:
    """Put text in a code fence longer than any run of backticks in it."""
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}\n"


def code(text: str) -> str:
    """Put one line of text in a code span that also holds in a table cell."""
    line = " ".join(text.split())
    longest = max((len(run) for run in _TICKS.findall(line)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{ticks}{pad}{line}{pad}{ticks}".replace("|", "\\|")


def escape(text: str) -> str:
    """Write text as plain words on one line: no markup, no table border."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Write a table from cells that are Markdown already; `right` names right-aligned columns.

    Columns are padded, so that the source reads as well as the page.
    """
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]
    rule = [
        "-" * (width - 1) + ":" if name in right else "-" * width
        for name, width in zip(header, widths, strict=True)
    ]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(header, row, widths, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(header), f"| {' | '.join(rule)} |", *map(line, cells[1:])]) + "\n"
