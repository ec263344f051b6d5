"""The sampling grid of a run as heat maps."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from tunebook.book.evaluations import read_results
from tunebook.book.places import open_run
from tunebook.errors import UsageError
from tunebook.pages import grid_map
from tunebook.pages.grids import cell_rows, recommendation
from tunebook.web.desk import desk_of

router = APIRouter()


@router.get("/grid/{name}")
def grid(request: Request, name: str, by: str = "", weights: str = "") -> Response:
    """Show the newest grid of each of the weights of a run."""
    desk = desk_of(request)
    run = open_run(desk.shelf.book, name)
    newest, notes = {}, []
    for one in read_results(run, "grid"):
        if reason := grid_map.why_unreadable(one):
            notes.append(f"{one.log} cannot be read ({reason}) and is left out.")
        else:
            newest[one.subject] = one
    if weights and weights not in newest:
        there = ", ".join(newest) or "none"
        raise UsageError(f"the run {name} has no grid of {weights}; there is {there}")
    shown = newest.get(weights) or next(iter(newest.values()), None)
    if shown is None:
        return desk.page(request, "grid.html", name=name, one=None, notes=notes)
    numbers = grid_map.numbers_of(shown)
    by = by or str(shown.settings.get("by"))
    if by not in numbers:
        raise UsageError(f"cells have no number `{by}`; there is {', '.join(numbers)}")
    maps = grid_map.draw_grid(shown, by)
    return desk.page(
        request,
        "grid.html",
        name=name,
        one=shown,
        notes=notes,
        subjects=list(newest),
        by=by,
        numbers=numbers,
        better=grid_map.better(by),
        maps=maps,
        marked=any(square.stands_out for drawn in maps for square in drawn.squares),
        recommendation=recommendation(shown),
        rows=cell_rows(shown),
        size=(grid_map.LEFT, grid_map.TOP, grid_map.CELL_WIDTH, grid_map.CELL_HEIGHT),
        levels=grid_map.LEVELS,
    )
