"""What an author may write from a page: notes with tags, and what a run that waits is to show."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import QueryParams

from tunebook.book.markers import author_words
from tunebook.book.places import RunFolder, open_run
from tunebook.web.desk import desk_of
from tunebook.web.runs import view_of
from tunebook.workflows.hypothesis import read_expectation, write_hypothesis
from tunebook.workflows.note import write_note
from tunebook.workflows.notebook import read_page

router = APIRouter()


def words_of(run: RunFolder) -> str:
    """Read what the author wrote on a run's page, as Markdown."""
    page = (read_page(run.book, run.notebook_md) or "").encode("utf-8", "surrogateescape")
    return author_words(page.decode("utf-8", "replace")).strip()


@router.get("/runs/{name}/note")
def note_form(request: Request, name: str, closed: bool = False) -> Response:
    """Give the form of a note: alone, or on a page of its own; once closed, what stood there."""
    desk = desk_of(request)
    run = open_run(desk.shelf.book, name)
    if closed:
        return _cell(request, name)
    if _in_place(request):
        return desk.page(request, "_note_form.html", run=name, view="latest")
    return desk.page(request, "note.html", run=name, words=words_of(run))


@router.post("/runs/{name}/note")
def add_note(
    request: Request,
    name: str,
    text: Annotated[str, Form()] = "",
    tags: Annotated[str, Form()] = "",
    view: Annotated[str, Form()] = "words",
) -> Response:
    """Add a note to a run; answers with what `view` names, the `latest` note or all `words`."""
    desk = desk_of(request)
    words = [word.lstrip("#") for word in re.split(r"[\s,]+", tags) if word]
    write_note(desk.shelf.book, [name], text, words)
    desk.shelf.look_again()
    if not _in_place(request):
        return RedirectResponse(f"/runs/{name}#notes", 303)
    if view == "latest":
        return _cell(request, name)
    words_now = words_of(open_run(desk.shelf.book, name))
    return desk.page(request, "_notes.html", run=name, words=words_now)


@router.post("/runs/{name}/hypothesis")
def set_hypothesis(
    request: Request,
    name: str,
    hypothesis: Annotated[str, Form()] = "",
    predictions: Annotated[str, Form()] = "",
    file_hash: Annotated[str | None, Form()] = None,
) -> Response:
    """Say what is expected of a run that has not begun, one prediction a line."""
    desk = desk_of(request)
    said = hypothesis.replace("\r\n", "\n").strip()
    expected = [line.strip() for line in predictions.splitlines() if line.strip()]
    write_hypothesis(desk.shelf.book, name, said, expected, file_hash)
    desk.shelf.look_again()
    if not _in_place(request):
        return RedirectResponse(f"/runs/{name}#hypothesis", 303)
    return desk.page(
        request,
        "_hypothesis_form.html",
        run=name,
        expectation=read_expectation(open_run(desk.shelf.book, name)),
        saved=True,
    )


def _cell(request: Request, name: str) -> Response:
    desk = desk_of(request)
    around = urlsplit(request.headers.get("hx-current-url", "")).query
    if name not in (known := desk.shelf.summaries()):
        desk.shelf.look_again()  # it was made a moment ago
        known = desk.shelf.summaries()
    row = known[name]
    return desk.page(request, "_note_cell.html", row=row, view=view_of(QueryParams(around)))


def _in_place(request: Request) -> bool:
    return "hx-request" in request.headers
