"""What came of a sweep as a table: Markdown for its folder, plain lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tunebook.pages.table import cell_text
from tunebook.trials import SweepPoint, SweepResult
from tunebook.units import format_number, format_seconds


def sweep_rows(result: SweepResult) -> tuple[list[str], list[list[str]]]:
    """Give the head of the table and its rows, the best first."""
    several = any(len(one.runs) > 1 for one in result.points)
    head = ["", *result.settings, result.by, "95 %", "against the best", "seconds", "state"]
    rows = []
    for one in result.points:
        settings = [cell_text(key, one.settings.get(key)) for key in result.settings]
        name = one.runs[0].removesuffix("-s" + one.runs[0].rpartition("-s")[2])
        rows.append(
            [
                name if several else one.runs[0],
                *settings,
                "none" if one.mean is None else format_number(one.mean),
                _interval(one.interval),
                "best" if one.point == result.best else _against(one),
                format_seconds(one.seconds),
                _states(one),
            ]
        )
    return head, rows


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else " to ".join(format_number(end) for end in interval)


def _against(one: SweepPoint) -> str:
    if not one.verdict or one.difference is None:
        return one.verdict
    low, high = one.difference
    return f"{one.verdict} ({low:+.3g} to {high:+.3g})"


def _states(one: SweepPoint) -> str:
    found = ", ".join(dict.fromkeys(one.states)) or "not begun"
    return f"{found}: {', '.join(one.verdicts)}" if one.verdicts else found


def told_lines(result: SweepResult) -> list[str]:
    """Say what the table shows: how many cannot be told from the best, and what mattered."""
    compared = [one for one in result.points if one.verdict]
    unsure = [one for one in compared if one.verdict != "different"]
    lines = []
    if compared:
        lines.append(
            f"{len(compared) - len(unsure)} of {len(compared)} combinations differ from the best; "
            f"of {len(unsure)} it cannot be told or they are equivalent"
        )
    lines += [f"{key}: {words}" for key, words in result.importance.items()]
    return [*lines, *result.notes]


def sweep_markdown(result: SweepResult) -> str:
    """Write the page of a sweep."""
    head, rows = sweep_rows(result)
    lines = [f"# Sweep {result.name}", "", _row(head), _row(["---"] * len(head))]
    lines += [_row(row) for row in rows]
    lines += ["", *(f"- {line}" for line in told_lines(result)), ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def sweep_text(result: SweepResult) -> str:
    """Write the table in columns, for a terminal or a file."""
    head, rows = sweep_rows(result)
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([*lines, "", *told_lines(result), ""])
