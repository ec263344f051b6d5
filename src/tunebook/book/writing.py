"""The door through which a file or a folder of a book is written: never through a link in it.

A book may come from a stranger, and a link that came with it may lead to any file of whoever opens
it. Only `runs` as a whole may be one: that is how an owner puts a large book on another disk. What
is replaced in one step (`atomic.write_atomically`) needs its folder to be asked for here.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

from tunebook.book.inside import link_below
from tunebook.book.places import where_it_leads
from tunebook.errors import BookError
from tunebook.regular import what_else

How = Literal["append", "anew", "change"]
"""Write at the end; write in place of all there was; change what is there."""

_FLAGS = {
    "append": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "anew": os.O_WRONLY | os.O_CREAT,  # emptied once it is known to be a file
    "change": os.O_RDWR,
}
_MODES = {"append": "ab", "anew": "wb", "change": "r+b"}


def open_to_write(book: Path, path: Path, how: How) -> IO[bytes]:
    """Open a file of a book to write it; to change it, it must be there.

    Never waits. Raises BookError where it is a link or behind one, or a pipe or a device; OSError
    as `open` does for the rest.
    """
    refuse_to_write_through_links(book, path)
    never = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, _FLAGS[how] | never, 0o666)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a pipe that nobody reads, or a socket
            raise BookError(_no_file(book, path)) from None
        refuse_to_write_through_links(book, path)  # one that came just now
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BookError(_no_file(book, path))
        if how == "anew":
            os.ftruncate(descriptor, 0)
        return os.fdopen(descriptor, _MODES[how])
    except BaseException:
        os.close(descriptor)
        raise


def make_folder(book: Path, folder: Path) -> Path:
    """Make a folder of a book with those above it, where they are not there, and give it.

    Raises BookError where it is a link or behind one, OSError where it cannot be made.
    """
    refuse_to_write_through_links(book, folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_to_write_through_links(book: Path, path: Path) -> None:
    """Raise BookError where a file or a folder of a book is a link, or behind one."""
    root = book / "runs"
    # What is no part of `runs` is all the same below the book, which may be a link itself.
    link = link_below(root if path.is_relative_to(root) else book, path)
    if link is None:
        return
    raise BookError(
        f"{link.relative_to(book)} is a link to {where_it_leads(link)}, and tunebook writes "
        "nothing through a link in a book; delete the link, or put what it leads to in its place"
    )


def cut_torn_line(book: Path, path: Path) -> None:
    """Remove what a killed process left of the last line of a log; one that is not there is whole.

    Raises as `open_to_write` does.
    """
    with suppress(FileNotFoundError), open_to_write(book, path, "change") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            file.truncate(whole)
            os.fsync(file.fileno())


def _no_file(book: Path, path: Path) -> str:
    what = what_else(path) or "no file"
    return f"{path.relative_to(book)} is {what}, and is to be written as a file; take it away"
