"""The part of a run's page that says what each source brought, and which part of a set it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunebook.book.by_source import SourceTally, tally_sources
from tunebook.book.events import Events
from tunebook.pages.markdown import code, escape, fence, table
from tunebook.records import ValidationRecord
from tunebook.units import format_count, format_number, format_percent

_LEVELS = "▁▂▃▄▅▆▇█"
_WIDTH = 48
_MOST_CURVES = 8


def write_mixture(events: Events, data: Mapping[str, Any]) -> str:
    """Write what was planned and trained of each source, with its losses; empty for one source."""
    tallies = tally_sources(events.steps)
    planned = {
        str(share.get("name")): share
        for share in data.get("mixture") or []
        if isinstance(share, Mapping)
    }
    names = list(dict.fromkeys((*planned, *tallies)))
    if len(names) < 2 or not tallies:
        return ""
    total = sum(tally.target_tokens for tally in tallies.values())
    base = next((v for v in events.validations if v.step == 0), None)
    last = next((v for v in reversed(events.validations) if v.step > 0), None)
    rows = []
    for name in names:
        tally = tallies.get(name, SourceTally(name))
        share = tally.target_tokens / total if total else 0.0
        rows.append(
            [
                escape(name),
                f"{planned[name]['weight']:g}" if name in planned else "",
                _planned(planned.get(name)),
                format_percent(share),
                format_count(tally.examples),
                format_count(tally.target_tokens),
                _change(tally.first_loss(), tally.last_loss()),
                _change(_held_out(base, name), _held_out(last, name)),
            ]
        )
    header = [
        "source",
        "weight",
        "planned",
        "trained",
        "examples",
        "target tokens",
        "train_loss",
        "val_loss",
    ]
    words = (
        "Shares are of target tokens: planned for an epoch, and trained so far. Losses are of the "
        "first and the last tenth of a source's steps; held-out ones before training and last.\n"
    )
    body = f"## By source\n\n{table(header, rows, right=header[1:])}\n{words}"
    return f"{body}\n{fence(_curves(tallies), 'text')}" if len(tallies) <= _MOST_CURVES else body


def _planned(share: Mapping[str, Any] | None) -> str:
    of = (share or {}).get("share_of")
    found = of.get("target_tokens") if isinstance(of, Mapping) else None
    return format_percent(found) if isinstance(found, (int, float)) else ""


def _held_out(validation: ValidationRecord | None, name: str) -> float | None:
    return validation.per_source.get(name) if validation is not None else None


def _change(first: float | None, last: float | None) -> str:
    if first is None and last is None:
        return "unknown"
    words = ["unknown" if v is None else format_number(v) for v in (first, last)]
    return " → ".join(words)


def _curves(tallies: Mapping[str, SourceTally]) -> str:
    """Draw the training loss of each source on one line; each line has its own scale."""
    width = max(len(name) for name in tallies)
    lines = []
    for name, tally in tallies.items():
        curve = draw_line(tally.steps, tally.loss_sums, tally.counts)
        first, last = (format_number(v) for v in (tally.first_loss(), tally.last_loss()))
        lines.append(f"{name:<{width}}  {first:>7} {curve} {last}")
    return "\n".join(lines)


def draw_line(
    steps: Sequence[int], sums: Sequence[float], counts: Sequence[int], width: int = _WIDTH
) -> str:
    """Draw a loss over steps in one line of blocks; `×` where it is not finite, a gap for none."""
    if not steps:
        return ""
    first, span = steps[0], max(steps[-1] - steps[0], 1)
    columns = min(width, len(steps))
    totals, weights = [0.0] * columns, [0] * columns
    for step, total, count in zip(steps, sums, counts, strict=True):
        column = min((step - first) * columns // span, columns - 1)
        totals[column] += total
        weights[column] += count
    values = [t / n if n else None for t, n in zip(totals, weights, strict=True)]
    finite = [v for v in values if v is not None and math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)

    def sign(value: float | None) -> str:
        if value is None:
            return " "
        if not math.isfinite(value):
            return "×"
        level = (value - low) / (high - low) if high > low else 0.0
        return _LEVELS[round(level * (len(_LEVELS) - 1))]

    return "".join(map(sign, values))


def write_part(data: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Write which part of a training set this is, and what changed since the part before."""
    parts = data.get("parts")
    if not isinstance(parts, Mapping) or parts.get("part") is None:
        return ""
    slices = [one for one in parts.get("slices") or [] if isinstance(one, Mapping)]
    rows = [
        [f"**{number}**" if number == parts["part"] else str(number)]
        + [format_count(one[key]) for key in ("rows", "documents", "examples")]
        for number, one in enumerate([*slices, parts["whole"]], start=1)
    ]
    rows[-1][0] = "all"
    header = ["part", "rows", "documents", "examples"]
    lines = [f"## Part {parts['part']} of {parts['parts']}\n", table(header, rows, right=header)]
    changed = environment.get("changed")
    if isinstance(changed, Mapping) and changed:
        lines.append("Changed since the part before:\n")
        lines += [
            f"- {code(key)} {code(str(old))} → {code(str(new))}"
            for key, (old, new) in changed.items()
        ]
        lines[-1] += "\n"
    return "\n".join(lines)
