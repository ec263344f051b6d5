"""A sampling grid as heat maps: temperature down, top-p across, a map for each penalty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tunebook.errors import MALFORMED
from tunebook.pages.evaluations import interval_text
from tunebook.pages.grids import cell_rows, recommendation
from tunebook.pages.table import HIGHER_IS_BETTER
from tunebook.records import Evaluation
from tunebook.units import format_number

LEVELS = 6
LEFT, TOP, CELL_WIDTH, CELL_HEIGHT = 62, 26, 132, 52
"""Pixels of a heat map."""

_NEITHER = ("length",)


@dataclass(frozen=True, slots=True)
class Square:
    """A cell of a heat map; `level` 0 to `LEVELS` is how high it is, `stands_out` as in `_best`."""

    x: float
    y: float
    width: float
    value: str
    interval: str
    level: int
    stands_out: bool
    reference: bool
    recommended: bool
    about: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The cells of one repetition penalty, with what stands beside and above them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    squares: tuple[Square, ...]
    width: float
    height: float


def numbers_of(one: Evaluation) -> list[str]:
    """List the numbers that every cell of a grid has."""
    return list(_cells(one)[0]["numbers"])


def why_unreadable(one: Evaluation) -> str:
    """Try to draw a grid by each of its numbers; says what fails, and nothing where it can be."""
    try:
        for by in numbers_of(one):
            draw_grid(one, by)
        recommendation(one)
        cell_rows(one)
    except MALFORMED as error:
        return f"{type(error).__name__}: {error}"
    return ""


def better(by: str) -> str:
    """Say which end of a number is the better one; of a length neither is."""
    if by in _NEITHER:
        return "neither end is the better one"
    return "higher is better" if by in HIGHER_IS_BETTER else "lower is better"


def draw_grid(one: Evaluation, by: str) -> list[HeatMap]:
    """Lay a grid out, a map for each repetition penalty."""
    cells = _cells(one)
    best = {id(cell) for cell in _best(cells, by)}
    scores = [cell["numbers"][by]["score"] for cell in cells]
    known = [score for score in scores if score is not None]
    low, spread = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    maps = []
    for penalty in _values(cells, "repetition_penalty"):
        here = [c for c in cells if c["sampling"]["repetition_penalty"] == penalty]
        heats = _values(here, "temperature")
        tops = _values([c for c in here if c["sampling"]["temperature"]] or here, "top_p")
        squares = []
        for cell in here:
            how, found = cell["sampling"], cell["numbers"][by]
            # Greedy draws nothing, so top-p changes nothing: one cell for all of them.
            column = 0 if not how["temperature"] else tops.index(how["top_p"])
            score, interval = found["score"], interval_text(found["interval"])
            squares.append(
                Square(
                    x=LEFT + CELL_WIDTH * column,
                    y=TOP + CELL_HEIGHT * heats.index(how["temperature"]),
                    width=CELL_WIDTH * (1 if how["temperature"] else len(tops)),
                    value=format_number(score),
                    interval=interval,
                    level=round((score - low) / spread * LEVELS) if spread and score else 0,
                    stands_out=id(cell) in best,
                    reference=how == one.details["reference"],
                    recommended=how == one.details["recommended"],
                    about=f"{_name(how)}: {by} {format_number(score)} ({interval}), n {found['n']}",
                )
            )
        maps.append(
            HeatMap(
                title=f"repetition penalty {penalty:g}",
                columns=tuple(f"top-p {top:g}" for top in tops),
                rows=tuple(f"T {heat:g}" if heat else "greedy" for heat in heats),
                squares=tuple(squares),
                width=LEFT + CELL_WIDTH * len(tops) + 2,
                height=TOP + CELL_HEIGHT * len(heats) + 2,
            )
        )
    return maps


def _cells(one: Evaluation) -> Sequence[Mapping[str, Any]]:
    details: Mapping[str, Any] = one.details
    found: Sequence[Mapping[str, Any]] = details["cells"]
    return found


def _values(cells: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return sorted({cell["sampling"][name] for cell in cells})


def _name(how: Mapping[str, float]) -> str:
    drawn = f"temperature {how['temperature']:g}, top-p {how['top_p']:g}"
    said = drawn if how["temperature"] else "greedy"
    return f"{said}, penalty {how['repetition_penalty']:g}"


def _best(cells: Sequence[Mapping[str, Any]], by: str) -> list[Mapping[str, Any]]:
    """Find the cells that are better than every neighbour, by intervals that do not meet."""
    if by in _NEITHER:
        return []
    sign = -1 if by in HIGHER_IS_BETTER else 1
    steps = {
        name: {frozenset(pair) for pair in pairwise(_values(cells, name))}
        for name in ("temperature", "top_p", "repetition_penalty")
    }

    def beyond(cell: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        mine, its = cell["numbers"][by]["interval"], other["numbers"][by]["interval"]
        if mine is None or its is None:
            return False
        return bool(mine[1] < its[0]) if sign > 0 else bool(mine[0] > its[1])

    found = []
    for cell in cells:
        near = [other for other in cells if _neighbours(cell["sampling"], other["sampling"], steps)]
        if near and all(beyond(cell, other) for other in near):
            found.append(cell)
    return found


def _neighbours(
    a: Mapping[str, float], b: Mapping[str, float], steps: Mapping[str, set[frozenset[float]]]
) -> bool:
    greedy = not a["temperature"] or not b["temperature"]
    names = [n for n in steps if a[n] != b[n] and not (n == "top_p" and greedy)]
    return len(names) == 1 and frozenset((a[names[0]], b[names[0]])) in steps[names[0]]
