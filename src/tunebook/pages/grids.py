"""What a sampling grid came to: a heat table, and every number of every cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunebook.book.codec import to_record
from tunebook.pages.evaluations import scored_text
from tunebook.pages.markdown import table
from tunebook.records import Comparison, Evaluation
from tunebook.statistics.words import verdict_text
from tunebook.units import format_number

_SHADES = " ░▒▓█"
_NUMBERS = ("length", "short", "hit-max", "rep-2", "rep-3", "rep-4", "looping", "copied")
_WHERE_THERE = ("self-repeat", "judge")


def write_grids(evaluations: Sequence[Evaluation]) -> str:
    """Write the newest grid of each of the weights; empty without one."""
    newest = {one.subject: one for one in evaluations if one.kind == "grid"}
    return "\n".join(_section(one) for one in newest.values())


def _section(one: Evaluation) -> str:
    heat, full = heat_rows(one), cell_rows(one)
    return (
        f"## Sampling grid of {one.subject}\n\n{one.settings['by']}: {recommendation(one)}.\n\n"
        f"{table(heat[0], heat[1:], heat[0][1:])}\n{table(full[0], full[1:], full[0][1:-1])}"
    )


def grid_lines(one: Evaluation) -> Iterator[str]:
    """Write a grid for the terminal."""
    yield f"{one.settings['by']} of {one.subject}, {one.n} prompts"
    for rows in (heat_rows(one), cell_rows(one)):
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            cells = zip(row, widths, strict=True)
            yield "  ".join(cell.ljust(width) for cell, width in cells).rstrip()
        yield ""
    yield recommendation(one)


def recommendation(one: Evaluation) -> str:
    """Say which cell is recommended, or that none differs from the reference cell."""
    details: Mapping[str, Any] = one.details
    reference = _name(details["reference"])
    if details["recommended"] is None:
        better = "above" if one.settings["by"] == "judge" else "below"
        return f"no cell is recommended: none is different from {reference} and {better} it"
    cell = next(c for c in details["cells"] if c["sampling"] == details["recommended"])
    found = to_record(Comparison, cell["difference"])
    change = scored_text(found.difference, found.interval)
    return f"recommended: {_name(cell['sampling'])}, different from {reference} by {change}"


def heat_rows(one: Evaluation) -> list[list[str]]:
    """Lay one number out, temperatures down and the rest across, the darker the higher."""
    details: Mapping[str, Any] = one.details
    by = str(one.settings["by"])
    cells = [(c["sampling"], c["numbers"][by]["score"]) for c in details["cells"]]
    highest = max(score for _, score in cells)
    across = dict.fromkeys((s["top_p"], s["repetition_penalty"]) for s, _ in cells)
    rows = [[by, *(f"top-p {p:g}, penalty {r:g}" for p, r in across)]]
    for temperature in dict.fromkeys(s["temperature"] for s, _ in cells):
        there = {
            (s["top_p"], s["repetition_penalty"]): score
            for s, score in cells
            if s["temperature"] == temperature
        }
        shown = [_shaded(there[key], highest) if key in there else "" for key in across]
        rows.append([_temperature(temperature), *shown])
    return rows


def cell_rows(one: Evaluation) -> list[list[str]]:
    """Put every cell into a row."""
    details: Mapping[str, Any] = one.details
    first = details["cells"][0]["numbers"]
    names = (*_NUMBERS, *(name for name in _WHERE_THERE if name in first))
    head = ("sampling", *names, "distinct-1", "distinct-2", "perplexity under base", "verdict")
    rows = [list(head)]
    for cell in details["cells"]:
        difference = cell["difference"]
        verdict = "reference"
        if difference is not None:
            verdict = verdict_text(to_record(Comparison, difference))
        numbers = [cell["numbers"][name]["score"] for name in names]
        more = [*cell["distinct"], cell["perplexity"]]
        shown = [format_number(value) for value in (*numbers, *more)]
        rows.append([_name(cell["sampling"]), *shown, verdict])
    return rows


def _shaded(score: float, highest: float) -> str:
    shade = _SHADES[round(score / highest * (len(_SHADES) - 1))] if highest else _SHADES[0]
    return f"{shade} {format_number(score)}"


def _temperature(value: float) -> str:
    return f"T {value:g}" if value else "greedy"


def _name(sampling: Mapping[str, float]) -> str:
    top_p = f", top-p {sampling['top_p']:g}" if sampling["temperature"] else ""
    penalty = f"penalty {sampling['repetition_penalty']:g}"
    return f"{_temperature(sampling['temperature'])}{top_p}, {penalty}"
