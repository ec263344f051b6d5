"""Write the pages of a book: one per run, and the index."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tunebook.book.atomic import alone, write_atomically, write_text
from tunebook.book.events import event_files
from tunebook.book.index import run_rows
from tunebook.book.inside import is_inside, read_inside
from tunebook.book.markers import merge_page
from tunebook.book.page_stamps import print_folder
from tunebook.book.places import (
    RunFolder,
    left_out_runs,
    left_out_words,
    list_runs,
    page_lock,
)
from tunebook.book.summary import book_lookup, measure, score_all, score_runs, summarize
from tunebook.errors import BookError, StorageError, TunebookError, first_line
from tunebook.pages.family import WholeBook, whole_book
from tunebook.pages.figures import draw_figure, drawn_digest
from tunebook.pages.index_page import build_index_page
from tunebook.pages.run_curves import RunCurves
from tunebook.pages.run_page import read_page_source, render_run_page
from tunebook.records import Outcome
from tunebook.workflows.standing_pages import StandingPages, stays_as_written

DRAWING_SECONDS = 1.5
"""How long figures are drawn at the end of another task."""


def build_notebook(
    book: Path,
    say: Callable[[str], None] = lambda _text: None,
    drawing_seconds: float = DRAWING_SECONDS,
    *,
    every_page: bool = False,
) -> list[Path]:
    """Bring every page up to date and return those that changed; the author's words stay.

    Pages that would be written as they are are left alone, unless `every_page` is asked for: the
    end of a verb costs what it changed. Figures whose numbers changed are drawn again, those of
    the newest runs first, and none is begun after `drawing_seconds`. A run whose files are damaged
    keeps its old page, and `say` is told why; so it is of links, which are no runs of the book.
    """
    started = time.monotonic()
    runs, outcomes = score_runs(run_rows(book))
    whole = whole_book(book, runs)
    standing = StandingPages(book, whole)
    for link in left_out_runs(book):
        say(left_out_words(link))
    changed = []
    for place, run in enumerate(sorted(list_runs(book), key=_last_written, reverse=True)):
        # On a busy machine loading what draws may take as long; the newest is drawn all the same.
        drawing = place == 0 or time.monotonic() - started < drawing_seconds
        if every_page or not standing.stands(run, drawing=drawing):
            try:
                changed += _build_page(run, whole, standing, say, drawing=drawing)
            except (StorageError, OSError):
                raise  # that would be so of every page
            except Exception as error:  # one run holds up the pages of no other
                say(f"the page of {run.name} stays as it was: {_why(error)}")
    index = build_index_page(list(runs.values()), outcomes, whole.lineage)
    try:
        changed += write_page(book, book / "notebook.md", index)
    except BookError as error:
        say(f"the page of the book stays as it was: {error}")
    standing.keep()
    return sorted(changed)


def _build_page(
    run: RunFolder,
    whole: WholeBook,
    standing: StandingPages,
    say: Callable[[str], None],
    *,
    drawing: bool,
) -> list[Path]:
    folder = print_folder(run)  # first: what changes from now on is not in it
    try:
        source = read_page_source(run, run.book, whole=whole)
    except OSError as error:
        raise BookError(f"a file of it cannot be read ({error}); restore it") from error
    if drawing:
        keep_figure(run, source.steps.curves, say)
    pictured = is_inside(run.book, run.curve_svg)
    generated = render_run_page(source)
    text, is_new = _rewrite(run.book, run.notebook_md, partial(merge_page, generated))
    if stays_as_written(generated, text):
        standing.add(source, folder, pictured, text)
    return [run.notebook_md] if is_new else []


def _why(error: Exception) -> str:
    if isinstance(error, TunebookError):
        return str(error)
    return f"this is a bug in tunebook: {type(error).__name__}: {first_line(error)}"


def build_last(book: Path, done: str, say: Callable[[str], None]) -> None:
    """Write the pages at the end of a verb; a StorageError says what is done all the same."""
    try:
        build_notebook(book, say)
    except StorageError as error:
        way_out = "`tunebook notebook build` writes its page"
        raise StorageError(f"{error}; {done}, and {way_out}") from error


def _last_written(run: RunFolder) -> float:
    try:
        return max((path.stat().st_mtime for path in event_files(run)), default=0.0)
    except (BookError, OSError):
        return 0.0  # its page says what is wrong with it


def keep_figure(run: RunFolder, curves: RunCurves, say: Callable[[str], None]) -> None:
    """Draw the figure of a run unless the one that is there shows just its numbers.

    Where that fails, no figure is left, and `say` is told why: a page is worth more than a picture.
    """
    try:
        if not curves.drawable():
            run.curve_svg.unlink(missing_ok=True)
        elif not is_inside(run.book, run.curve_svg) or (
            drawn_digest(read_inside(run.book, run.curve_svg)) != curves.digest()
        ):
            write_atomically(run.curve_svg, draw_figure([curves], "svg"))
    except Exception as error:  # whatever a library does, the page is written
        say(f"the figure of {run.name} was not drawn: {first_line(error)}")
        with contextlib.suppress(OSError):
            run.curve_svg.unlink()


def write_page(book: Path, path: Path, generated: str) -> list[Path]:
    """Merge generated text into a page; returns the page if that changed it."""
    return change_page(book, path, lambda existing: merge_page(generated, existing))


def change_page(book: Path, path: Path, change: Callable[[str | None], str]) -> list[Path]:
    """Rewrite a page from what it says now, None if it is not there; returns it if that changed it.

    One writer at a time: a note that comes while a trainer writes its result is not lost.
    """
    return [path] if _rewrite(book, path, change)[1] else []


def _rewrite(book: Path, path: Path, change: Callable[[str | None], str]) -> tuple[str, bool]:
    """Do as `change_page` does; gives what the page says now, and whether that is new."""
    with alone(page_lock(book)):
        existing = read_page(book, path)
        changed = change(existing)
        if changed != existing:
            write_text(path, changed)
    return changed, changed != existing


def read_page(book: Path, path: Path) -> str | None:
    """Read a page so that writing it again changes no byte, whatever its encoding or line ends."""
    try:
        return read_inside(book, path).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BookError(f"{path} cannot be read: {error.strerror}; move it away") from None


def run_outcomes(book: Path, run: RunFolder) -> list[Outcome]:
    """Score the predictions of a run by what is known now."""
    return score_all(
        measure(run).predictions, summarize(run), book_lookup(RunFolder(book, run.name))
    )
