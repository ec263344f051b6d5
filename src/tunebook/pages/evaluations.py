"""What evaluations of a run came to, for its page and the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunebook.pages.elo import elo_lines
from tunebook.pages.markdown import code, escape, table
from tunebook.records import Comparison, Evaluation
from tunebook.statistics.words import verdict_text
from tunebook.units import format_count, format_number

# Kinds that may be asked a file, and what they are asked without one.
_OF_FILES = ("loss", "judge", "pairs", "probe", "grid", "facts")
_HASH = re.compile("[0-9a-f]{64}")
_OWN = ("held out", "ready-made")

HEADER = (
    "evaluation",
    "weights",
    "score",
    "95 % interval",
    "n",
    "missing",
    "difference",
    "verdict",
)


def write_evaluations(evaluations: Sequence[Evaluation]) -> str:
    """Write the table of evaluations of a run."""
    if not evaluations:
        return ""
    rows = [[escape(cell) for cell in evaluation_row(one)] for one in evaluations]
    right = ("score", "n", "missing")
    logs = ", ".join(code(one.log) for one in evaluations)
    elos = "".join(
        f"- {escape(one.subject)}, {escape(str(one.settings.get('policy')))}: "
        f"{escape('; '.join(line.strip() for line in elo_lines(one.details)))}\n"
        for one in evaluations
        if "elo" in one.details
    )
    elos = f"\nElo of games, by policy:\n\n{elos}" if elos else ""
    return f"## Evaluations\n\n{table(HEADER, rows, right)}{elos}\nItem by item: {logs}.\n"


def evaluation_row(one: Evaluation) -> list[str]:
    """Put an evaluation into the cells of `HEADER`."""
    difference = verdict = ""
    if one.comparison is not None:
        difference = scored_text(one.comparison.difference, one.comparison.interval)
        verdict = f"{verdict_text(one.comparison)} (against {one.against})"
    return [
        f"{one.kind}{_asked(one)} ({one.unit})",
        one.subject,
        format_number(one.score),
        interval_text(one.interval),
        format_count(one.n),
        format_count(one.missing),
        difference,
        verdict,
    ]


def _asked(one: Evaluation) -> str:
    """Name the file that was asked; not the run's own held-out examples, nor a hash of prompts."""
    named = (one.settings.get(key) for key in ("data", "questions", "prompts", "facts"))
    files = [
        name
        for name in named
        if isinstance(name, str) and name not in _OWN and not _HASH.fullmatch(name)
    ]
    return f" on {files[0]}" if files and one.kind in _OF_FILES else ""


def interval_text(interval: Sequence[float] | None) -> str:
    """Write an interval as `2.31 to 2.48`; unknown is said."""
    if interval is None:
        return "unknown"
    low, high = interval
    return f"{format_number(low)} to {format_number(high)}"


def scored_text(score: float | None, interval: Sequence[float] | None) -> str:
    """Write a score with its interval."""
    return f"{format_number(score)} ({interval_text(interval)})"


def comparison_text(found: Comparison) -> str:
    """Write a difference with its interval, the test's p, the one that decided, and the verdict."""
    p = "" if found.p is None else f", p {format_number(found.p)}"
    if found.p_adjusted is not None and found.p_adjusted != found.p:
        p += f", {format_number(found.p_adjusted)} of all looks"
    within = f" within {found.margin:g}" if found.verdict == "equivalent" else ""
    return f"{scored_text(found.difference, found.interval)}{p}: {verdict_text(found)}{within}"
