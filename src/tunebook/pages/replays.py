"""What replays found out, for a run's page and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunebook.pages.markdown import escape, table
from tunebook.trials import Replay, Trial
from tunebook.units import format_number

_SHOWN = 100


def write_replays(replays: Sequence[Replay]) -> str:
    """Write a section with what was tried for each spike, and what caused it."""
    parts = []
    for one in replays:
        rows = [[escape(cell) for cell in row] for row in trial_rows(one)]
        parts.append(f"{escape(cause_line(one))}\n\n{table(rows[0], rows[1:])}")
    return "## Replays\n\n" + "\n".join(parts) if parts else ""


def replay_lines(one: Replay) -> Iterator[str]:
    """Write a replay for the terminal."""
    rows = trial_rows(one)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(cell.ljust(width) for cell, width in cells).rstrip()
    yield from (f"not tried: {name}: {why}" for name, why in one.left_out.items())
    yield f"the same as recorded: largest difference {one.difference:.2g} nats"
    yield cause_line(one)
    shown = one.verdict.evidence.get("rows")
    for name, text in dict(shown if isinstance(shown, dict) else {}).items():
        yield f"  {name}  {_short(text)!r}"
    yield f"next: {one.verdict.next_action}"
    if one.verdict.changes:
        yield f"      {' '.join(one.verdict.changes)}"


def cause_line(one: Replay) -> str:
    """Say what a replay found, in one line."""
    verdict = one.verdict
    return f"step {one.step}: {verdict.kind} ({verdict.confidence}): {verdict.cause}"


def trial_rows(one: Replay) -> list[list[str]]:
    """Lay the trials out, the header first."""
    spike = "canary rises" if one.measure == "canary" else "loss stands out"
    loss = f"loss at {one.step}"
    head = ["change", loss, "highest after", "highest canary", spike, "removed"]
    return [head, *(_row(one.trials[0], trial) for trial in one.trials)]


def _row(control: Trial, trial: Trial) -> list[str]:
    removed = "" if trial is control else "yes" if trial.removed else "no"
    after = max(trial.losses[1:], default=None)
    numbers = (trial.losses[0], after, max(trial.canary), trial.height)
    name = "none" if trial is control else trial.change
    return [name, *(format_number(number) for number in numbers), removed]


def _short(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _SHOWN else f"...{line[-_SHOWN:]}"
