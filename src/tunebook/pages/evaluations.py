"""What evaluations of a run came to, for its page and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunebook.pages.markdown import code, escape, table
from tunebook.records import Evaluation
from tunebook.units import format_count, format_number

HEADER = ("evaluation", "weights", "score", "95 % interval", "n", "missing", "difference", "verdict")


def write_evaluations(evaluations: Sequence[Evaluation]) -> str:
    """Write the table of evaluations of a run, those with the same settings together."""
    if not evaluations:
        return ""
    rows = [[escape(cell) for cell in evaluation_row(one)] for one in evaluations]
    right = ("score", "n", "missing", "difference")
    logs = ", ".join(code(one.log) for one in evaluations)
    return f"## Evaluations\n\n{table(HEADER, rows, right)}\nLines asked: {logs}.\n"


def evaluation_row(one: Evaluation) -> list[str]:
    """Put an evaluation into the cells of `HEADER`."""
    compared = one.details.get("comparison")
    against = one.details.get("against")
    difference = verdict = ""
    if isinstance(compared, Mapping):
        difference = f"{format_number(compared['difference'])} {interval_text(compared['interval'])}"
        verdict = f"{verdict_text(compared)} (against {against})"
    return [
        f"{one.kind} ({one.unit})",
        one.subject,
        format_number(one.score),
        interval_text(one.interval),
        format_count(one.n),
        format_count(one.missing),
        difference.strip(),
        verdict,
    ]


def interval_text(interval: Any) -> str:
    """Write an interval as `2.31 to 2.48`; unknown is said."""
    if interval is None:
        return "unknown"
    low, high = interval
    return f"{format_number(low)} to {format_number(high)}"


def verdict_text(compared: Mapping[str, Any]) -> str:
    """Say different, equivalent or cannot tell, and how many items would decide."""
    if compared["reason"]:
        return f"{compared['verdict']}: {compared['reason']}"
    if compared["verdict"] == "cannot tell" and compared["n_needed"]:
        return f"cannot tell, about {format_count(compared['n_needed'])} items needed"
    return str(compared["verdict"])
