"""Held-out rows that are trained on."""

from __future__ import annotations

from tunebook.records import Verdict
from tunebook.units import format_percent
from tunebook.watch.run_log import RunLog


def find_validation_overlap(log: RunLog) -> Verdict | None:
    """Find that rows stand on both sides, so that the held-out loss is too good."""
    found = log.facts.validation_overlap
    if found is None or found[0] <= 0:
        return None
    n, of = found
    return Verdict(
        kind="validation_overlap",
        step=None,
        last_step=None,
        cause=f"{n:,} of {of:,} held-out rows ({format_percent(n / of)}) are trained on, too",
        confidence="certain",
        evidence={"overlapping": n, "held_out": of, "share": n / of},
        next_action=(
            "take them out of one side, as with `filters: [exact_duplicate]` in the source; until "
            "then the held-out loss says nothing of new text"
        ),
    )
