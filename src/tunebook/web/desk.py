"""What the handlers of requests share: the book, the templates, the secret of the server."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from tunebook import __version__
from tunebook.web.comparisons import Comparisons
from tunebook.web.guard import Guard
from tunebook.web.kept import Kept, Written
from tunebook.web.later import Later
from tunebook.web.markup import FILTERS
from tunebook.web.polls import Polls
from tunebook.web.runs_rows import Rows
from tunebook.web.shelf import Shelf

PAGES = (
    ("Runs", "/"),
    ("Compare", "/compare"),
    ("Side by side", "/side"),
    ("Lineage", "/lineage"),
    ("Sweep", "/sweep"),
    ("Chess", "/chess"),
    ("Notebook", "/notebook"),
)
"""What the head of every page links to."""


def make_environment() -> Environment:
    """Make what renders templates: everything is escaped, and a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("tunebook.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # a look at every file of a page, ten times a second
    )
    environment.filters |= FILTERS
    return environment


class Desk:
    """What the handlers of requests share; found in a request as `request.app.state.desk`."""

    def __init__(self, book: Path, guard: Guard):
        self.shelf = Shelf(book)
        self.comparisons = Comparisons(self.shelf)
        self.guard = guard
        self.polls = Polls()
        self.kept = Kept()
        self.rows = Rows()
        self.statistics = Later("scipy.stats")
        self.environment = make_environment()

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """Render a template; `here` in it is the path asked for."""
        return HTMLResponse(self.render(request, template, **values), status)

    def kept_page(
        self, asked: tuple[Hashable, ...], of: tuple[object, ...], write: Callable[[], str]
    ) -> Response:
        """Give a page as it was written from the same objects before, or write it.

        Only for what is made of `of` and `asked` alone: which page, and what it reads of a query.
        What else stands in an address makes no other page.
        """
        found = self.kept.page(
            asked, (*of, self.shelf.reading), lambda: Written(write().encode("utf-8"))
        )
        return HTMLResponse(found.body)

    def render(self, request: Request, template: str, **values: Any) -> str:
        """Write the page of a template; `here` in it is the path asked for."""
        return self.environment.get_template(template).render(
            here=request.url.path,
            pages=PAGES,
            csrf=self.guard.csrf,
            book=self.shelf.book.name,
            reading=self.shelf.reading,
            version=__version__,
            **values,
        )


def desk_of(request: Request) -> Desk:
    """Give a request the desk of its server."""
    desk: Desk = request.app.state.desk
    return desk
