"""One run: what was expected of it, what it does or did, and on what."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from tunebook.web.desk import desk_of

router = APIRouter()

PANELS = (("loss", "val_loss"), ("learning_rate",), ("grad_norm",), ("update_ratio",))


@router.get("/runs/{name}")
def run(request: Request, name: str) -> Response:
    """Show a run."""
    desk = desk_of(request)
    desk.shelf.reader(name)
    curves = {"runs": [name], "panels": PANELS, "superseded": True}
    return desk.page(request, "run.html", name=name, curves=curves)
