"""One run: what was expected of it, what it does or did, and on what."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import PlainTextResponse, Response

from tunebook.book.events import read_events
from tunebook.book.inside import is_inside, open_inside
from tunebook.book.places import open_run
from tunebook.errors import BookError
from tunebook.pages.run_mixture import write_mixture
from tunebook.web.book_markdown import render
from tunebook.web.curves import SPEED
from tunebook.web.desk import Desk, desk_of
from tunebook.web.run_view import SHOWN_FILES, RunView
from tunebook.web.writing import words_of
from tunebook.workflows.hypothesis import read_expectation

router = APIRouter()

PANELS = (("loss", "val_loss"), ("learning_rate",), ("grad_norm",), ("update_ratio",), (SPEED,))
PIECES = ("progress", "predictions", "work", "verdicts", "samples", "plan", "weights", "files")
"""Parts of the page that change while a run goes on; each is sent again when it has changed."""
_MOST_LOG_BYTES = 1_000_000


@router.get("/runs/{name}")
def run(request: Request, name: str) -> Response:
    """Show a run."""
    desk = desk_of(request)
    it = RunView(desk.shelf, name)
    pieces = _pieces(desk, it)
    return desk.page(
        request,
        "run.html",
        it=it,
        run=name,
        pieces=pieces,
        seen=_digests(pieces),
        curves={"runs": [name], "panels": PANELS, "superseded": True, "wait": True},
        words=words_of(it.run),
        expectation=read_expectation(it.run),
    )


@router.get("/runs/{name}/live")
def live(request: Request, name: str) -> Response:
    """Give the parts of a run's page that differ from those whose digests the query names."""
    desk = desk_of(request)
    it = RunView(desk.shelf, name)
    pieces = _pieces(desk, it)
    seen = _digests(pieces)
    changed = {p: pieces[p] for p in PIECES if request.query_params.get(p) != seen[p]}
    asked = request.query_params
    answer = desk.page(request, "_run_live.html", it=it, seen=seen, changed=changed, asked=asked)
    if asked.get("was") == "new" and it.summary.state != "new":
        answer.headers["HX-Refresh"] = "true"  # the page of a run that waits lacks most sections
    return answer


@router.get("/runs/{name}/sources")
def sources(request: Request, name: str) -> Response:
    """Give what was trained of each source of a mixture; this reads every step."""
    desk = desk_of(request)
    it = RunView(desk.shelf, name)
    text = write_mixture(read_events(it.run), it.data).partition("\n")[2]
    return Response(render(text or "No step has been recorded yet."), media_type="text/html")


@router.get("/runs/{name}/file/{file}")
def file(request: Request, name: str, file: Annotated[str, Path()]) -> Response:
    """Give a text file of a run as it is; of a long one its end."""
    found = open_run(desk_of(request).shelf.book, name)
    # A link in the folder of a run could lead anywhere.
    if file not in SHOWN_FILES or not is_inside(found.book, found.path / file):
        raise BookError(f"run {name} has no file `{file}` to show")
    with open_inside(found.book, found.path / file) as opened:
        opened.seek(max(opened.seek(0, 2) - _MOST_LOG_BYTES, 0))
        return PlainTextResponse(opened.read().decode("utf-8", "replace"))


def _pieces(desk: Desk, it: RunView) -> dict[str, str]:
    template = desk.environment.get_template
    return {piece: template(f"_run_{piece}.html").render(it=it) for piece in PIECES}


def _digests(pieces: dict[str, str]) -> dict[str, str]:
    return {p: hashlib.sha256(text.encode()).hexdigest()[:12] for p, text in pieces.items()}
