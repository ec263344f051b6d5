"""What chess was measured in the book, side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from tunebook.book.evaluations import read_results
from tunebook.book.places import open_run
from tunebook.pages import chess_maps as maps
from tunebook.pages.elo import elo_lines
from tunebook.web.desk import desk_of

router = APIRouter()


@router.get("/chess")
def chess(request: Request, run: Annotated[list[str] | None, Query()] = None) -> Response:
    """Show legality, puzzles and Elo of the runs asked for, else of all that have any."""
    desk = desk_of(request)
    book = desk.shelf.book
    every = desk.shelf.evaluated("chess")
    asked = [name for name in run or () if name]
    chosen = [open_run(book, name) for name in asked or every]
    found, notes = maps.collect({one.name: read_results(one, "chess") for one in chosen})
    tags, curves = maps.ply_curves(found)
    failed, failures = maps.failure_rows(found)
    return desk.page(
        request,
        "chess.html",
        names=every,
        asked=asked,
        series=found,
        notes=notes,
        tags=tags,
        places=[maps.x_of(place, len(tags)) for place in range(len(tags))],
        curves=curves,
        kinds=maps.kind_dots(found),
        puzzles=maps.puzzle_dots(found),
        elo=maps.elo_dots(found),
        elo_texts=[
            (one, kind.removeprefix("games, "), list(elo_lines(each.details)))
            for one in found
            for kind, each in one.found.items()
            if "elo" in each.details
        ],
        games=maps.game_rows(found),
        failed=failed,
        failures=failures,
        frame=(maps.LEFT, maps.RIGHT, maps.TOP, maps.BOTTOM),
        size=(maps.LABELS, maps.REACH),
    )
