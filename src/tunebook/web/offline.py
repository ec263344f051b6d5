"""The whole book as one file: read without a server, a network or a script."""

from __future__ import annotations

import html
import re
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from tunebook import __version__
from tunebook.book.inside import is_inside, read_text_inside
from tunebook.book.lineage import build_lineage
from tunebook.book.markers import author_words, generated_part
from tunebook.book.places import RunFolder, list_runs
from tunebook.book.summary import OVER
from tunebook.kinds import FAULTS
from tunebook.pages.index_page import begun_and_waiting
from tunebook.pages.lineage import tree_lines
from tunebook.records import RunSummary
from tunebook.web.book_markdown import Sheet, render
from tunebook.web.desk import make_environment
from tunebook.web.notebook import front_matter, history_of, page_text, scored
from tunebook.web.shelf import Shelf
from tunebook.workflows.figures import write_into

_STATIC = Path(__file__).parent / "static"
_STYLES = ("app.css", "notebook.css", "offline.css")
_ALT = re.compile(r'aria-label="([^"]*)"')


def write_offline(book: Path, path: Path) -> int:
    """Write the book as it stands in its pages into one file, and return its size in bytes.

    A file of that name is replaced. Raises UsageError for a folder, StorageError where it cannot
    be written.
    """
    return write_into(path, [offline_page(book).encode("utf-8", "replace")])


def offline_page(book: Path) -> str:
    """Put the pages of a book together; runs whose page was never written are in the table only."""
    runs, outcomes = scored(Shelf(book), whole=True)
    listed = [run for run in list_runs(book) if run.name in runs]
    folders = [run for run in listed if is_inside(book, run.notebook_md)]
    known = {run.name for run in folders}
    begun, waiting = begun_and_waiting(list(runs.values()))
    lineage = build_lineage(book, runs.values())
    whole = Sheet(known)
    # The newest first, as in the history.
    order = {run.name: n for n, run in enumerate([*begun[::-1], *waiting])}
    return (
        make_environment()
        .get_template("offline.html")
        .render(
            book=book.name,
            version=__version__,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            style=Markup("\n".join((_STATIC / name).read_text("utf-8") for name in _STYLES)),
            runs=sorted(runs.values(), key=lambda run: order[run.name]),
            pages={run.name: _page(run, known) for run in folders},
            outcomes=outcomes,
            open=_open(runs, outcomes),
            over=OVER,
            faults=FAULTS,
            own=render(author_words(page_text(book, book / "notebook.md")), sheet=whole),
            history=history_of(begun[::-1], runs, whole),
            waiting=history_of(waiting, runs, whole) if waiting else "",
            tree="\n".join(tree_lines(lineage, runs, None)),
        )
    )


def _open(runs: dict[str, RunSummary], outcomes: dict[str, Any]) -> list[tuple[RunSummary, Any]]:
    return [
        (run, outcome)
        for name, run in runs.items()
        for outcome in outcomes[name]
        if run.state not in OVER or outcome.held is None
    ]


def _page(run: RunFolder, known: Collection[str]) -> dict[str, Any]:
    page = page_text(run.book, run.notebook_md)
    front, body = front_matter(generated_part(page))
    sheet = Sheet(known, _figure(run))
    return {
        "front": front,
        "body": render(body, run.name, sheet),
        "own": render(author_words(page), run.name, sheet),
    }


def _figure(run: RunFolder) -> str:
    """Take the figure of a run into the page.

    As the address of an image: whoever wrote the file, nothing in it can run or ask for anything.
    """
    try:
        svg = read_text_inside(run.book, run.curve_svg)
    except OSError:
        return ""
    found = _ALT.search(svg[:4000])
    alt = html.escape(html.unescape(found[1])) if found else f"Loss of {run.name}"
    safe = " !$&'()*+,-./0123456789:;=?@[]_~\n"
    source = html.escape(f"data:image/svg+xml,{quote(svg, safe=safe)}")
    return f'<img class="drawn" alt="{alt}" src="{source}">'
