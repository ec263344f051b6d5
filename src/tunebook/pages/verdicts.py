"""Verdicts in words, the same on the page and in the terminal; see also the list in `kinds`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from tunebook.kinds import FAULTS, KINDS
from tunebook.records import Diagnosis, RunSummary, Verdict
from tunebook.units import format_number

EVIDENCE_ROWS = 8
_LISTED = 6
_LONGEST_TEXT = 160
_LONGEST_NAME = 90


def where_text(verdict: Verdict) -> str:
    """Say at which steps it was; empty for a verdict about the whole run."""
    if verdict.step is None:
        return ""
    if verdict.last_step in (None, verdict.step):
        return f"step {verdict.step}"
    return f"steps {verdict.step} to {verdict.last_step}"


def head_text(verdict: Verdict) -> str:
    """Name a verdict with its steps and how sure it is."""
    if verdict.kind == "no_fault_found":
        return "no fault found"
    where = where_text(verdict)
    return f"{verdict.kind}{', ' * bool(where)}{where} ({verdict.confidence})"


def level_of(verdict: Verdict) -> str:
    """Say how much a verdict matters: fault, amber (not confirmed yet), notice or fine."""
    kind = KINDS.get(verdict.kind)
    level = kind.level if kind is not None else "notice"
    return "amber" if level == "fault" and verdict.confidence == "amber" else level


def verdict_text(verdict: Verdict) -> str:
    """Write a verdict and its cause in a line."""
    return f"{head_text(verdict)}: {verdict.cause}"


def evidence_rows(verdict: Verdict) -> list[tuple[str, str]]:
    """Write the evidence as names and values, cut to what a reader takes in."""
    rows = [
        (key.replace("_", " "), _text(value, verdict.evidence.get(f"{key}_left_out", 0)))
        for key, value in verdict.evidence.items()
        if not key.endswith("_left_out")
    ]
    more = len(rows) - EVIDENCE_ROWS
    if more > 0:
        rows[EVIDENCE_ROWS:] = [("and more", f"{more}, in tunebook verdicts RUN --json")]
    return rows


def _text(value: object, left_out: object = 0) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format_number(value)
    if isinstance(value, (list, tuple)):
        words = [_text(item) for item in value[:_LISTED]]
        more = len(value) - len(words) + (left_out if isinstance(left_out, int) else 0)
        return ", ".join(words) + (f" and {more} more" if more else "")
    if isinstance(value, Mapping):
        return _text([f"{key} {_text(one)}" for key, one in value.items()])
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def next_command(run: str, verdict: Verdict) -> str | None:
    """Write the command that makes the next run with what a verdict proposes; None without it.

    Every verdict has a command of its own: of two changes at once neither would be the cause.
    """
    if not verdict.changes:
        return None
    name = f"{run[:_LONGEST_NAME]}_next"
    return shlex.join(["tunebook", "new", name, "--from", run, *verdict.changes])


def blind_lines(diagnosis: Diagnosis) -> list[str]:
    """Say what could not be looked for, by what was missing."""
    by_reason: dict[str, list[str]] = {}
    for kind, reason in diagnosis.not_looked_for.items():
        by_reason.setdefault(reason, []).append(kind)
    return [f"{', '.join(kinds)}: {reason}" for reason, kinds in by_reason.items()]


def quiet_kinds(diagnosis: Diagnosis) -> list[str]:
    """List what was looked for and not found; effects of a cause were found with it."""
    found = {name for verdict in diagnosis.verdicts for name in verdict.names}
    return [kind for kind in diagnosis.looked_for if kind not in found]


def found_in_short(summary: RunSummary) -> Sequence[str]:
    """List the faults of a run for a table, those not confirmed with a question mark."""
    faults = [kind for kind in summary.verdicts if kind in FAULTS]
    if not faults and "no_fault_found" in summary.verdicts:
        return ["no fault found"]
    return [f"{kind}?" if kind in summary.amber else kind for kind in faults]
