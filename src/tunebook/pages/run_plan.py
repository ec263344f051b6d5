"""The part of a run's page that holds the plan against what happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunebook.book.events import Events
from tunebook.book.plans import Comparison, compare_plan
from tunebook.pages.markdown import code, escape, table
from tunebook.units import format_bytes, format_count, format_error, format_seconds

FIGURES = {
    "peak_bytes": "peak memory, tensors",
    "resident_bytes": "peak memory, process",
    "seconds": "time",
    "disk_bytes": "disk",
}
"""What a plan is compared by, in words."""


def figure_text(figure: str, value: float | None) -> str:
    """Write a figure of a plan with its unit."""
    if value is None:
        return "not measured"
    return format_seconds(value) if figure == "seconds" else format_bytes(value)


def error_text(found: Comparison) -> str:
    """Write how far a plan was off; unknown is empty."""
    return "" if found.error is None else format_error(found.error)


def write_plan(plan: Mapping[str, Any], events: Events) -> str:
    """Write planned beside measured, and what the checks said; nothing when there is no plan."""
    if not plan:
        return ""
    rows = [*_counts(plan, events), *_figures(plan)]
    header = ["", "planned", "measured", "error"]
    parts = ["## Plan against actual\n", table(header, rows, right=header[1:])]
    parts += _checks(plan)
    return "\n".join(parts) + "\n"


def _counts(plan: Mapping[str, Any], events: Events) -> Iterator[list[str]]:
    parameters = plan.get("parameters")
    counted = events.fact("parameters")
    if isinstance(parameters, Mapping):
        counted = counted if isinstance(counted, Mapping) else {}
        for key, name in (("total", "parameters of the base"), ("trainable", "trainable")):
            yield _count(name, parameters.get(key), counted.get(key))
    yield _count("steps", plan.get("steps"), events.fact("steps"))


def _count(name: str, planned: object, measured: object) -> list[str]:
    cells = [format_count(n) if isinstance(n, int) else "not measured" for n in (planned, measured)]
    both = isinstance(planned, int) and isinstance(measured, int)
    return [name, *cells, "none" if both and planned == measured else "**differs**" * both]


def _figures(plan: Mapping[str, Any]) -> Iterator[list[str]]:
    for figure, found in compare_plan(plan).items():
        if found.planned is not None or found.measured is not None:
            cells = [figure_text(figure, n) for n in (found.planned, found.measured)]
            yield [FIGURES[figure], *cells, error_text(found)]


def _checks(plan: Mapping[str, Any]) -> Iterator[str]:
    passed = plan.get("checks_passed")
    if isinstance(passed, int):
        yield f"{format_count(passed)} checks passed."
    found = [check for check in plan.get("checks") or [] if isinstance(check, Mapping)]
    accepted = plan.get("accepted") or []
    if found:
        yield ""
    for check in found:
        refused = "**accepted by the author**" if check.get("name") in accepted else "**refused**"
        word = "warning" if check.get("level") == "warn" else refused
        yield f"- {code(str(check.get('name')))}, {word}: {escape(str(check.get('message')))}"
