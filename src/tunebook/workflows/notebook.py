"""Write the pages of a book: one per run, and the index."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from tunebook.book.atomic import alone, write_atomically, write_text
from tunebook.book.events import event_files
from tunebook.book.index import run_summaries
from tunebook.book.lineage import build_lineage
from tunebook.book.markers import merge_page
from tunebook.book.places import RunFolder, list_runs, page_lock
from tunebook.book.summary import book_lookup, measure, score_all, summarize
from tunebook.errors import BookError, StorageError, TunebookError, first_line
from tunebook.pages.figures import draw_figure, drawn_digest
from tunebook.pages.index_page import build_index_page
from tunebook.pages.run_curves import RunCurves
from tunebook.pages.run_page import read_page_source, render_run_page
from tunebook.records import Outcome

DRAWING_SECONDS = 1.5
"""How long figures are drawn at the end of another task."""


def build_notebook(
    book: Path,
    say: Callable[[str], None] = lambda _text: None,
    drawing_seconds: float = DRAWING_SECONDS,
) -> list[Path]:
    """Write every page again and return those that changed; the author's words stay.

    Figures whose numbers changed are drawn again, those of the newest runs first, and none is
    begun after `drawing_seconds`. A run whose files are damaged keeps its old page, and `say` is
    told why.
    """
    started = time.monotonic()
    runs = run_summaries(book)
    by_name = {summary.name: summary for summary in runs}
    outcomes: dict[str, tuple[Outcome, ...]] = {}
    changed = []
    for place, run in enumerate(sorted(list_runs(book), key=_last_written, reverse=True)):
        try:
            source = read_page_source(run, book, by_name)
        except TunebookError as error:
            say(f"the page of {run.name} stays as it was: {error}")
            continue
        outcomes[run.name] = source.outcomes
        # On a busy machine loading what draws may take as long; the newest is drawn all the same.
        if place == 0 or time.monotonic() - started < drawing_seconds:
            keep_figure(run, source.steps.curves, say)
        changed += write_page(book, run.notebook_md, render_run_page(source))
    index = build_index_page(runs, outcomes, build_lineage(book, runs))
    changed += write_page(book, book / "notebook.md", index)
    return sorted(changed)


def build_last(book: Path, done: str) -> None:
    """Write the pages at the end of a verb; a StorageError says what is done all the same."""
    try:
        build_notebook(book)
    except StorageError as error:
        way_out = "`tunebook notebook build` writes its page"
        raise StorageError(f"{error}; {done}, and {way_out}") from error


def _last_written(run: RunFolder) -> float:
    return max((path.stat().st_mtime for path in event_files(run)), default=0.0)


def keep_figure(run: RunFolder, curves: RunCurves, say: Callable[[str], None]) -> None:
    """Draw the figure of a run unless the one that is there shows just its numbers.

    Where that fails, no figure is left, and `say` is told why: a page is worth more than a picture.
    """
    try:
        if not curves.drawable():
            run.curve_svg.unlink(missing_ok=True)
        elif not run.curve_svg.exists() or (
            drawn_digest(run.curve_svg.read_bytes()) != curves.digest()
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
    with alone(page_lock(book)):
        existing = read_page(path)
        changed = change(existing)
        if changed == existing:
            return []
        write_text(path, changed)
    return [path]


def read_page(path: Path) -> str | None:
    """Read a page so that writing it again changes no byte, whatever its encoding or line ends."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BookError(f"{path} cannot be read: {error.strerror}; move it away") from None


def run_outcomes(book: Path, run: RunFolder) -> list[Outcome]:
    """Score the predictions of a run by what is known now."""
    return score_all(
        measure(run).predictions, summarize(run), book_lookup(RunFolder(book, run.name))
    )
