"""How a run held against another is written for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tunebook.units import format_number

if TYPE_CHECKING:
    from tunebook.workflows.versus_runs import Versus


def versus_lines(found: Versus) -> Iterator[str]:
    """Write results first, then what changed, then the verdicts."""
    from tunebook.statistics.words import verdict_text
    from tunebook.watch.between import change_words

    yield f"{found.run} against {found.against}"
    for metric, one in found.compared.items():
        first, second = format_number(one.first), format_number(one.second)
        yield f"{metric:<11} {first} - {second}: {verdict_text(one.comparison)}"
        interval = one.comparison.interval
        ends = ""
        if interval is not None:
            ends = " (95 % interval {} to {})".format(*map(format_number, interval))
        yield f"{'difference':<11} {format_number(one.comparison.difference)}{ends}"
        if one.assumed:
            yield f"{'':<11} {one.assumed}; --judge-n, --judge-sd and --correlation say otherwise"
    for note in found.notes:
        yield f"{'note':<11} {note}"
    words = [change_words(key, change) for key, change in found.changed.items()]
    if found.against != "base":
        yield f"{'changed':<11} {'; '.join(words) or 'no setting that is known'}"
    for verdict in found.verdicts:
        yield f"{verdict.kind}: {verdict.cause}"
        yield f"{'':<11} {verdict.next_action}"


def versus_plain(found: Versus) -> dict[str, Any]:
    """Give the same for JSON."""
    from dataclasses import asdict

    return {
        "run": found.run,
        "against": found.against,
        "changed": {key: {"then": a, "now": b} for key, (a, b) in found.changed.items()},
        "compared": {metric: asdict(one) for metric, one in found.compared.items()},
        "verdicts": found.verdicts,
        "notes": found.notes,
    }
