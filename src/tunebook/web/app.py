"""The server of a book: its pages, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from tunebook.errors import BookError, TunebookError
from tunebook.web import (
    chess,
    compare,
    curves,
    downloads,
    grids,
    lineage,
    notebook,
    run,
    runs,
    side,
    sweep,
    voting,
    writing,
)
from tunebook.web.desk import Desk, desk_of
from tunebook.web.guard import Guard

_HERE = Path(__file__).parent


def make_app(book: Path, guard: Guard | None = None) -> FastAPI:
    """Make the server of a book; reading and writing are as far as `guard` lets them."""
    guard = guard or Guard()
    # The interactive pages of FastAPI would load scripts from another host.
    app = FastAPI(title="tunebook", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = Desk(book, guard)
    app.middleware("http")(guard)
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    for page in (
        chess,
        compare,
        curves,
        downloads,
        grids,
        lineage,
        notebook,
        run,
        runs,
        side,
        sweep,
        voting,
        writing,
    ):
        app.include_router(page.router)
    app.add_api_route("/reading", _reading)
    app.add_exception_handler(TunebookError, _tell)
    app.add_exception_handler(HTTPException, _tell)
    return app


def _reading(request: Request) -> Response:
    """Say how far the first reading of the book is; a page that asks is loaded again at its end."""
    shelf = desk_of(request).shelf
    return PlainTextResponse(shelf.reading, headers={} if shelf.reading else {"HX-Refresh": "true"})


async def _tell(request: Request, error: Exception) -> Response:
    """Show a mistake as one sentence on a page."""
    if isinstance(error, HTTPException):
        status, sentence = error.status_code, str(error.detail)
    else:
        status, sentence = 404 if isinstance(error, BookError) else 400, str(error)
    return desk_of(request).page(request, "mistake.html", status, sentence=sentence)
