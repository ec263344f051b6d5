"""The server of a book: its pages, and how a mistake is told."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tunebook.book.atomic import describe_any_disk
from tunebook.errors import BookError, Busy, StorageError, TunebookError
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

GoOn = Callable[[Request], Awaitable[Response]]

_HERE = Path(__file__).parent
_NO_STORAGE = 507  # what HTTP says of a disk that takes no more


def make_app(book: Path, guard: Guard | None = None, *, debug: bool = True) -> FastAPI:
    """Make the server of a book; reading and writing are as far as `guard` lets them.

    A bug is always one sentence on the page and in the log; with `debug` a traceback goes before
    that in the log.
    """
    guard = guard or Guard()

    async def answer(request: Request, go_on: GoOn) -> Response:
        return await guard(request, lambda asked: _whatever_happens(asked, go_on, debug))

    # The interactive pages of FastAPI would load scripts from another host.
    app = FastAPI(title="tunebook", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = Desk(book, guard)
    app.middleware("http")(answer)
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
    app.add_exception_handler(RequestValidationError, _tell)
    return app


def _reading(request: Request) -> Response:
    """Say how far the first reading of the book is; a page that asks is loaded again at its end."""
    shelf = desk_of(request).shelf
    return PlainTextResponse(shelf.reading, headers={} if shelf.reading else {"HX-Refresh": "true"})


async def _tell(request: Request, error: Exception) -> Response:
    """Show a mistake as one sentence on a page."""
    if isinstance(error, RequestValidationError):
        status, sentence = 400, "; ".join(_complaint(one) for one in error.errors())
    elif isinstance(error, HTTPException):
        status, sentence = error.status_code, str(error.detail)
    else:
        known = ((Busy, 409), (BookError, 404), (StorageError, _NO_STORAGE))
        status = next((code for kind, code in known if isinstance(error, kind)), 400)
        sentence = str(error)
    return desk_of(request).page(request, "mistake.html", status, sentence=sentence)


def _complaint(error: Mapping[str, Any]) -> str:
    name, value = ".".join(map(str, error["loc"][1:])), repr(error["input"])
    return f"`{name}` cannot be {value[:60]}: {error['msg'][:1].lower()}{error['msg'][1:]}"


async def _whatever_happens(request: Request, go_on: GoOn, debug: bool) -> Response:
    """Answer a request even where there is a bug."""
    try:
        return await go_on(request)
    except ClientDisconnect:  # whoever hung up reads no answer
        return Response(status_code=400)
    except Exception as bug:
        if debug:
            traceback.print_exc()
        if (refused := describe_any_disk(bug)) is not None:
            status = 404 if isinstance(bug, FileNotFoundError) else _NO_STORAGE
            return desk_of(request).page(request, "mistake.html", status, sentence=refused)
        name = " ".join(f"{type(bug).__name__}: {bug}".split())
        hint = "" if debug else "; start the server as `tunebook --debug ui` for the traceback"
        sentence = f"this is a bug in tunebook: {name}"
        print(f"tunebook: {request.url.path}: {sentence}{hint}", file=sys.stderr, flush=True)
        return desk_of(request).page(request, "mistake.html", 500, sentence=sentence)
