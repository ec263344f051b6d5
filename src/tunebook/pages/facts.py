"""Who says a fact when it is stated, and who from memory, for a run's page and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunebook.book.codec import to_record
from tunebook.pages.evaluations import comparison_text, interval_text, scored_text
from tunebook.pages.markdown import escape, table
from tunebook.records import Comparison, Evaluation
from tunebook.statistics.words import verdict_text
from tunebook.units import format_number

_HEADER = (
    "weights",
    "fact given",
    "from memory",
    "given - memory",
    "95 % interval",
    "verdict",
)


def write_facts(evaluations: Sequence[Evaluation]) -> str:
    """Write the newest share of each of the weights; empty without one."""
    newest = {one.subject: one for one in evaluations if one.kind == "facts"}
    if not newest:
        return ""
    rows = [[escape(cell) for cell in _cells(one)] for one in newest.values()]
    lines = "".join(f"- {escape(x)}\n" for one in newest.values() for x in _over_first(one))
    return (
        "## Facts, stated or from memory\n\nShare of answers that say the fact of the knowledge "
        f"turn, with that turn and without it.\n\n{table(_HEADER, rows)}\n{lines}"
    )


def fact_lines(one: Evaluation) -> Iterator[str]:
    """Write the shares of one set of weights for the terminal."""
    given, memory, gain = _parts(one)
    yield (
        f"{one.subject}: says the fact when it is given {scored_text(**given)}, from memory "
        f"{scored_text(**memory)}, n {one.n:,}"
    )
    yield f"  given - memory: {comparison_text(gain)}"
    yield from (f"  {line}" for line in _over_first(one))


def _cells(one: Evaluation) -> list[str]:
    given, memory, gain = _parts(one)
    return [
        one.subject,
        scored_text(**given),
        scored_text(**memory),
        format_number(gain.difference),
        interval_text(gain.interval),
        verdict_text(gain),
    ]


def _parts(one: Evaluation) -> tuple[dict[str, Any], dict[str, Any], Comparison]:
    details: Mapping[str, Any] = one.details
    given, memory = (
        {key: details[name][key] for key in ("score", "interval")} for name in ("given", "memory")
    )
    return given, memory, to_record(Comparison, details["gain"])


def _over_first(one: Evaluation) -> Iterator[str]:
    details: Mapping[str, Any] = one.details
    for name, shown in (("given_over", "fact given"), ("memory_over", "from memory")):
        if details[name] is not None:
            found = to_record(Comparison, details[name])
            yield f"{shown}, {one.subject} - {one.settings['first']}: {comparison_text(found)}"
