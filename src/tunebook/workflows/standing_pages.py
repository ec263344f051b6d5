"""Which pages of runs a build leaves alone, because it would write them as they are.

A page is made of the files of its run, of what links the run to others, of what the book knows of
the runs it names, and of tunebook itself. All four are in its stamp.
"""

from __future__ import annotations

import functools
from pathlib import Path

from tunebook import __version__
from tunebook.book.inside import is_inside, open_inside, read_inside
from tunebook.book.markers import merge_page
from tunebook.book.page_stamps import (
    PageStamp,
    hash_bytes,
    hash_text,
    keep_stamps,
    print_folder,
    read_stamps,
)
from tunebook.book.places import RunFolder
from tunebook.pages.family import WholeBook, family_names
from tunebook.pages.figures import drawn_digest
from tunebook.pages.run_page import PageSource

_HEAD_BYTES = 4000


class StandingPages:
    """The stamps of a book's pages, held against what the book is now."""

    def __init__(self, book: Path, whole: WholeBook):
        self._book = book
        self._whole = whole
        self._stamps = read_stamps(book)
        self._fresh: dict[str, PageStamp] = {}
        self._rows: dict[str, str] = {}

    def stands(self, run: RunFolder, *, drawing: bool) -> bool:
        """Tell whether writing the page of a run would change no byte of it.

        With `drawing` the same is told of its figure; else that may wait for another build.
        """
        stamp = self._stamps.get(run.name)
        folder = print_folder(run) if stamp and print_program() else None
        if stamp is None or folder is None or stamp.of != self._of(run, folder, stamp.asked):
            return False
        try:
            # By what it says, for it was written just before its stamp: no time tells that apart.
            if hash_bytes(read_inside(run.book, run.notebook_md)) != stamp.page:
                return False
            pictured = is_inside(run.book, run.curve_svg)
            if pictured != stamp.pictured:
                return False
            return not drawing or (_numbers_shown(run) if pictured else None) == stamp.figure
        except OSError:
            return False

    def add(self, source: PageSource, folder: str | None, pictured: bool, text: str) -> None:
        """Remember of what a page was just written, as `text`.

        `folder` is what `print_folder` gave before the run was read, and `pictured` whether its
        figure was there. A living run gets no stamp: its page ages by itself.
        """
        run = source.run
        if folder is None or print_program() is None or source.runs.listed:
            return
        if source.summary.state == "running":
            return
        curves = source.steps.curves
        asked = tuple(sorted(source.runs.asked))
        of = self._of(run, folder, asked)
        figure = curves.digest() if curves.drawable() else None
        self._fresh[run.name] = PageStamp(of, asked, hash_text(text), pictured, figure)

    def keep(self) -> None:
        """Write the stamps down, now that the pages are."""
        keep_stamps(self._book, self._fresh, self._whole.runs.keys())

    def _of(self, run: RunFolder, folder: str, asked: tuple[str, ...]) -> str:
        lineage, name = self._whole.lineage, run.name
        family = family_names(name, self._whole.links)
        edges = [*lineage.parents(name), *lineage.children(name)]
        parts = [str(print_program()), folder, repr(family), repr(edges), *map(self._row, asked)]
        return hash_text("\n".join(parts))

    def _row(self, name: str) -> str:
        """Hash what the book knows of a run; a page of a family asks for the same ones again."""
        if name not in self._rows:
            found = self._whole.runs.get(name)
            self._rows[name] = hash_text(repr((name, found)))
        return self._rows[name]


@functools.cache
def print_program() -> str | None:
    """Hash what tunebook is at this moment: with another one every page is written again.

    By its files as well as its version, which stays the same while somebody works on it. None
    when a file is newer than this process, which then writes as the older one said.
    """
    import psutil

    root = Path(__file__).parents[1]
    lines, newest = [__version__], 0.0
    for path in sorted(root.rglob("*.py")):
        stat = path.stat()
        lines.append(f"{path.relative_to(root)}:{stat.st_size}:{stat.st_mtime_ns}")
        newest = max(newest, stat.st_mtime, stat.st_ctime)
    if newest > psutil.Process().create_time():
        return None
    return hash_text("\n".join(lines))


def stays_as_written(generated: str, text: str) -> bool:
    """Tell whether the next build would find nothing to change in a page; odd markers may grow."""
    return merge_page(generated, text) == text


def _numbers_shown(run: RunFolder) -> str | None:
    with open_inside(run.book, run.curve_svg) as file:
        return drawn_digest(file.read(_HEAD_BYTES)) or ""
