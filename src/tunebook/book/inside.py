"""What stays in a book: nothing is deleted through a link, and nothing shown from behind one.

Nor is a run written through one.

A book may come from a stranger, and a link in it may lead to any folder of whoever opens it. Only
`runs` as a whole may be one: that is how an owner puts a large book on another disk.
"""

from __future__ import annotations

import errno
import os
from io import BufferedReader
from pathlib import Path

from tunebook.book.places import RunFolder, where_it_leads
from tunebook.errors import BookError
from tunebook.regular import (
    NotReadable,
    is_regular,
    open_regular,
    read_regular,
    read_regular_text,
)

_WAY_OUT = (
    "put what it leads to in its place, or make all of `runs` a link to keep runs on another disk"
)


def link_below(folder: Path, path: Path) -> Path | None:
    """Find the first link on the way from a folder to what is in it, the last part included."""
    at = folder
    for part in path.relative_to(folder).parts:
        at = at / part
        if at.is_symlink():
            return at
    return None


def refuse_linked(book: Path, path: Path) -> None:
    """Raise BookError when a folder of a book that is to be emptied is a link, or behind one."""
    if (link := link_below(book, path)) is not None:
        raise BookError(_sentence(book, link))


_LOGS = ("train.log", "train-host-*.log", "report-*.log")


def refuse_linked_run(run: RunFolder) -> None:
    """Raise BookError when a run would be written, or deleted from, through a link.

    `runs` itself may be one, and `best` is. What is replaced as a whole is not written through.
    """
    folders = (run.checkpoints, run.events, run.evaluations, run.final, run.tensorboard)
    logs = (path for pattern in _LOGS for path in run.path.glob(pattern))
    for path in (*folders, *logs):
        if (link := link_below(run.book / "runs", path)) is not None:
            raise BookError(
                f"{_called(run.book, link)}, and tunebook writes and deletes nothing behind a link "
                f"in a run; {_WAY_OUT}"
            )


def files_of(run: RunFolder, folder: Path, ending: str) -> list[Path]:
    """List the files of a folder of a run that end in some way, by name; a pipe is none.

    Raises BookError where the folder or one of them leads out of the run: a run without them would
    be told as another than it is.
    """
    try:
        with os.scandir(shown(run.book, folder)) as found:
            # A folder stays in the list: reading it says that it is no file.
            entries = [(e.name, e.is_file(follow_symlinks=False) or e.is_dir()) for e in found]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except NotReadable:
        raise BookError(_unread(run, folder)) from None
    files = []
    for name, is_plain in sorted(entries):
        path = folder / name
        if name.endswith(ending) and (is_plain or is_inside(run.book, path)):
            files.append(path)
        elif name.endswith(ending) and path.is_symlink():
            raise BookError(_unread(run, path))
    return files


def _unread(run: RunFolder, path: Path) -> str:
    link = link_below(run.book / "runs", path) or path
    return f"{_called(run.book, link)}, and it is not read: it leads out of the run; {_WAY_OUT}"


def _sentence(book: Path, link: Path) -> str:
    return (
        f"{_called(book, link)}, and tunebook deletes nothing behind a link; put a folder in its "
        "place"
    )


def _called(book: Path, link: Path) -> str:
    return f"{link.relative_to(book)} is a link to {where_it_leads(link)}"


def inside(folder: Path, name: str) -> Path:
    """Join a name to a folder; NotReadable unless what it leads to lies in that folder.

    Gives the place without links, which need not be there.
    """
    base = folder.resolve()
    try:
        found = (base / name).resolve()
        # A link that leads to itself is resolved to itself.
        stays = found != base and found.is_relative_to(base) and not found.is_symlink()
    except (OSError, ValueError, RuntimeError):
        stays = False
    if not stays:
        raise NotReadable(errno.EXDEV, f"it leads out of {folder}", str(folder / name))
    return found


def shown(book: Path, path: Path) -> Path:
    """Find a file of a book to tell what it says.

    Raises NotReadable where it leads out of the folder of its run; one of no run, out of the book.
    """
    parts = path.relative_to(book).parts
    if parts[0] != "runs" or len(parts) < 3:
        return inside(book, "/".join(parts))
    if link_below(book / "runs", path) is None:
        return path  # by far the most, and a list of runs asks for thousands
    run = inside(book / "runs", parts[1])
    if run.parent != (book / "runs").resolve():
        raise NotReadable(errno.EXDEV, f"runs/{parts[1]} is no run of the book", str(path))
    return inside(run, "/".join(parts[2:]))


def open_inside(book: Path, path: Path, most_bytes: int | None = None) -> BufferedReader:
    """Open a file of a book to read it, as `shown` finds it and `open_regular` opens it."""
    return open_regular(shown(book, path), most_bytes)


def read_inside(book: Path, path: Path, most_bytes: int | None = None) -> bytes:
    """Read a file of a book, as `shown` finds it and `read_regular` reads it."""
    return read_regular(shown(book, path), most_bytes)


def read_text_inside(book: Path, path: Path) -> str:
    """Read a text of a book, as `shown` finds it and `read_regular_text` reads it."""
    return read_regular_text(shown(book, path))


def is_inside(book: Path, path: Path) -> bool:
    """Tell whether a name in a book leads to a regular file that may be told of."""
    try:
        return is_regular(shown(book, path))
    except OSError:
        return False
