"""What a page shows, as files for other programs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from tunebook.pages.curves_csv import csv_lines
from tunebook.web.desk import desk_of

router = APIRouter()


@router.get("/runs/{name}/curves.csv")
def curves_csv(request: Request, name: str) -> Response:
    """Give every step of a run with what is known of it."""
    look = desk_of(request).shelf.look(name)
    headers = {"Content-Disposition": f'attachment; filename="{name}-curves.csv"'}
    return StreamingResponse(csv_lines(look), media_type="text/csv", headers=headers)
