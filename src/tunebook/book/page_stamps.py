"""Of what each run's page was written, so that whoever ends a verb can leave the others alone.

Throw-away: without a stamp, or with one that cannot be read, a page is written again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from tunebook.book.atomic import alone, write_atomically
from tunebook.book.codec import dump_json, to_record
from tunebook.book.places import RunFolder, page_lock, page_stamps
from tunebook.errors import MALFORMED, BookError, StorageError
from tunebook.regular import read_regular

SETTLED_SECONDS = 2.0
"""A file that changed so lately may change again within one tick of a coarse clock, unseen."""


@dataclass(frozen=True, slots=True)
class PageStamp:
    """What was true when a page was written; it stays true, whatever happens to the page.

    A page made of what `of` is the hash of has the hash `page`. `asked` are the runs that it says
    something of, `pictured` tells whether it shows a figure, and `figure` is the hash of the
    numbers that the figure is to show, None where there is nothing to draw.
    """

    of: str
    asked: tuple[str, ...]
    page: str
    pictured: bool
    figure: str | None


def read_stamps(book: Path) -> dict[str, PageStamp]:
    """Read the stamps of a book by the names of its runs; empty where there are none."""
    try:
        found = orjson.loads(read_regular(page_stamps(book)))["pages"]
        return {name: to_record(PageStamp, one) for name, one in found.items()}
    except (OSError, AttributeError, *MALFORMED):
        return {}


def keep_stamps(book: Path, fresh: Mapping[str, PageStamp], runs: Collection[str]) -> None:
    """Put stamps beside those that other processes wrote, of the `runs` there are.

    To be called when the pages are written. Where the disk refuses, the pages are written again
    next time.
    """
    with contextlib.suppress(BookError, StorageError, OSError), alone(page_lock(book)):
        before = read_stamps(book)
        after = {name: one for name, one in (before | dict(fresh)).items() if name in runs}
        if after != before:
            write_atomically(page_stamps(book), dump_json({"format_version": 1, "pages": after}))


def print_folder(run: RunFolder) -> str | None:
    """Hash the names, sizes and times of all files of a run, its page and its figure left out.

    None where that does not tell whether one was changed: a file changed a moment ago, a link
    leads elsewhere, or a folder cannot be listed.
    """
    lines: list[str] = []
    newest = 0
    folders = [(str(run.path), "")]
    aside = (run.notebook_md.name, run.curve_svg.name)
    try:
        while folders:
            folder, inside = folders.pop()
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = inside + entry.name
                    if name in aside:
                        continue
                    if entry.is_symlink():
                        if name != run.best.name:
                            return None
                        name += f" -> {os.readlink(entry.path)}"  # nobody reads through this one
                    elif entry.is_dir():
                        folders.append((entry.path, f"{name}/"))
                        lines.append(f"{name}/")
                        continue
                    stat = entry.stat(follow_symlinks=False)
                    # The time of change as well, which no program sets: an edit can keep the other.
                    lines.append(f"{name}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}")
                    newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
    except OSError:
        return None
    if newest > time.time_ns() - SETTLED_SECONDS * 1e9:
        return None
    return hash_text("\n".join(sorted(lines)))


def hash_text(text: str) -> str:
    """Hash a text, whatever bytes it was read from."""
    return hash_bytes(text.encode("utf-8", "surrogateescape"))


def hash_bytes(data: bytes) -> str:
    """Hash what a file holds."""
    return hashlib.sha256(data).hexdigest()[:32]
