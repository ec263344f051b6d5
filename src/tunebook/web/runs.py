"""The table of all runs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from tunebook.web.desk import desk_of

router = APIRouter()


@router.get("/")
def runs(request: Request) -> Response:
    """Show the runs of the book."""
    desk = desk_of(request)
    return desk.page(request, "runs.html", runs=list(desk.shelf.summaries().values()))
