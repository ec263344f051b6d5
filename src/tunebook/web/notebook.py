"""The pages of the notebook, the author's words apart, and what is still open in the book."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from markupsafe import Markup

from tunebook.book.inside import is_inside, read_text_inside
from tunebook.book.lineage import build_lineage
from tunebook.book.markers import author_words, generated_part, merge_page
from tunebook.book.places import RunFolder, open_run
from tunebook.book.summary import OVER, score_runs
from tunebook.errors import MALFORMED, BookError
from tunebook.pages.index_page import begun_and_waiting, build_index_page, write_history
from tunebook.pages.run_page import build_run_page
from tunebook.records import Outcome, RunSummary
from tunebook.web.book_markdown import SHOWN_FILE, Sheet, render, sections
from tunebook.web.desk import desk_of
from tunebook.web.shelf import Shelf

router = APIRouter()

_KINDS = {"svg": "image/svg+xml", "png": "image/png"}
_RUNS_NOTHING = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


_AT_ONCE = 50
_BETWEEN = "</ul>\n<ul>\n"  # where two lists of the history become one


@dataclass(frozen=True, slots=True)
class OpenPrediction:
    """A prediction with the run that made it; `over` when it will not change any more."""

    run: RunSummary
    outcome: Outcome
    over: bool


@router.get("/notebook")
def notebook(request: Request) -> Response:
    """Show what was tried, what is still open, and what waits to be tried."""
    desk = desk_of(request)
    measured = desk.shelf.measured()
    own = page_text(desk.shelf.book, desk.shelf.book / "notebook.md")

    def write() -> str:
        runs, outcomes = score_runs(measured)
        begun, waiting = begun_and_waiting(list(runs.values()))
        found = [
            OpenPrediction(runs[name], outcome, runs[name].state in OVER)
            for name in runs
            for outcome in outcomes[name]
        ]
        return desk.render(
            request,
            "notebook.html",
            history=history_of(begun[::-1], runs),
            own=render(author_words(own)),
            predictions=[one for one in found if not one.over],
            questions=[one for one in found if one.over and one.outcome.held is not True],
            waiting=waiting,
        )

    return desk.kept_page(("/notebook",), (measured, own), write)


@router.get("/notebook.md")
def notebook_markdown(request: Request) -> Response:
    """Give the index page as Markdown, its generated part as the book is now."""
    shelf = desk_of(request).shelf
    runs, outcomes = scored(shelf, whole=True)
    every = list(runs.values())
    generated = build_index_page(every, outcomes, build_lineage(shelf.book, every))
    own = page_text(shelf.book, shelf.book / "notebook.md")
    return PlainTextResponse(merge_page(generated, own or None))


@router.get("/notebook/{name}")
def notebook_page(request: Request, name: str) -> Response:
    """Show the page of a run; with `.md` behind the name, as Markdown."""
    desk = desk_of(request)
    book = desk.shelf.book
    if name.endswith(".md") and not (book / "runs" / name).is_dir():
        run = open_run(book, name.removesuffix(".md"))
        return PlainTextResponse(_page(desk.shelf, run, whole=True))
    run = open_run(book, name)
    page = _page(desk.shelf, run)
    front, body = front_matter(generated_part(page))
    return desk.page(
        request,
        "notebook_run.html",
        name=run.name,
        front=front,
        sections=sections(body),
        generated=render(body, run.name),
        own=render(author_words(page), run.name),
    )


@router.get("/notebook/{name}/{file}")
def picture(request: Request, name: str, file: str) -> Response:
    """Give a picture that lies in a run's own folder."""
    run = open_run(desk_of(request).shelf.book, name)
    path = run.path / file
    # A link could lead anywhere, and what it names need not be a picture.
    if not SHOWN_FILE.fullmatch(file) or not is_inside(run.book, path):
        raise BookError(f"the run {name} has no picture `{file}`; its page shows those it has")
    headers = {"Content-Security-Policy": _RUNS_NOTHING}
    return FileResponse(path, media_type=_KINDS[file.rpartition(".")[2]], headers=headers)


def scored(
    shelf: Shelf, *, whole: bool = False
) -> tuple[dict[str, RunSummary], dict[str, list[Outcome]]]:
    """Summarize every run by name, and score its predictions by what is known now.

    `whole` is that of `Shelf.measured`.
    """
    return score_runs(shelf.measured(whole=whole))


def history_of(
    begun: Sequence[RunSummary], runs: Mapping[str, RunSummary], sheet: Sheet | None = None
) -> Markup:
    """Render the dated list of runs, a hypothesis on a line of its own."""
    # In parts of which each is kept once it was rendered, counted from where no run is added.
    first = len(begun) % _AT_ONCE
    starts = [0] * bool(first) + list(range(first, len(begun), _AT_ONCE))
    parts = [
        render(write_history(begun[a:b], runs).replace("\n  ", "\\\n  "), sheet=sheet)
        for a, b in itertools.pairwise([*starts, len(begun)])
    ]
    return Markup("").join(parts).replace(_BETWEEN, "")


def _page(shelf: Shelf, run: RunFolder, *, whole: bool = False) -> str:
    """Read the page of a run as it was last written, or write one for this answer."""
    if text := page_text(run.book, run.notebook_md):
        return text
    try:
        runs, look = shelf.summaries(whole=whole), shelf.look(run.name)
        return merge_page(build_run_page(run, shelf.book, runs, look), None)
    except (OSError, *MALFORMED) as error:
        raise BookError(
            f"the page of {run.name} cannot be written, for a file of the run is not as it should "
            f"be ({type(error).__name__}: {error}); the run's own page shows the rest"
        ) from None


def page_text(book: Path, path: Path) -> str:
    """Read a page of a book; empty where there is none, BookError where it leads elsewhere."""
    try:
        return read_text_inside(book, path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BookError(f"{path} cannot be read: {error.strerror}; move it away") from None


def front_matter(text: str) -> tuple[Mapping[str, str], str]:
    """Take the front matter off a generated page; its values are JSON, a line each."""
    if not text.startswith("---\n"):
        return {}, text
    head, _, body = text[4:].partition("\n---")
    found = {}
    for line in head.splitlines():
        key, _, value = line.partition(": ")
        try:
            known = orjson.loads(value)
        except orjson.JSONDecodeError:
            known = value
        if key and known not in (None, [], ""):
            found[key] = ", ".join(map(str, known)) if isinstance(known, list) else str(known)
    return found, body
