"""The token of a book's pages: made once, and kept in the book where nobody else reads it.

127.0.0.1 is every account of a machine. Who knows the token may read and write the book; it is in
the address that `tunebook ui` prints, and stays the same, so that a bookmark and a browser that
was let in go on working when the server is started again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tunebook.book.places import make_hidden_dir, ui_token_file
from tunebook.errors import TunebookError

_KEPT = re.compile(r"([A-Za-z0-9_-]{43}) (\d{1,20})\n")
"""The token, and the number of the file on its disk: a copy of the file has another."""
_TRIES = 3
_PATIENCE_SECONDS = 2.0
_NO_SECOND_NAMES = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a disk says that gives a file one name only."""


def token_file(book: Path) -> Path:
    """Name the file of this account's token: who shares a book with others has one of their own."""
    shared = ui_token_file(book)
    return shared.with_name(f"{shared.name}-{os.geteuid()}")


def start_token(book: Path) -> tuple[str, str]:
    """Give the token of a book, and a sentence for the user where it is not the one of last time.

    Of several starts at once all get the same. A file that others may read or have written, or that
    came with a copied book, is not believed: whoever made it would know the token. Where none can
    be kept, the token is for this start.
    """
    path = token_file(book)
    token, spoiled = _kept(path)
    if token:
        return token, ""
    token = secrets.token_urlsafe(32)
    try:
        make_hidden_dir(book)
        token, replaced = _keep(path, token)
    except (OSError, TunebookError) as error:
        refused = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return (
            token,
            f"the token cannot be kept in {path} ({refused}), so it is for this start only",
        )
    if spoiled or replaced:
        return token, (
            f"the token in {path} may be known to others (it was copied, or is not readable by "
            "you alone); a new one was made, so open the new address"
        )
    return token, ""


def _kept(path: Path) -> tuple[str | None, bool]:
    """Read the token; None for no file and for one that is not to be believed, and which it is."""
    try:
        # A pipe of that name would be waited for, and a link could lead anywhere.
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, False
    except OSError:
        return None, True
    with open(opened, "rb") as file:
        about = os.fstat(opened)
        if not stat.S_ISREG(about.st_mode) or not _is_mine_alone(about):
            return None, True
        found = _KEPT.fullmatch(file.read(200).decode("ascii", "replace"))
    if found is None or int(found[2]) != about.st_ino:
        return None, True
    return found[1], False


def _keep(path: Path, token: str) -> tuple[str, bool]:
    """Write the token for this account alone; gives the one that is kept, and whether over another.

    That is not the one given where another start was quicker. OSError where none can be kept.
    """
    made, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(made, "wb") as file:
            about = os.fstat(made)
            if not _is_mine_alone(about):  # a disk that knows no owners
                raise PermissionError(
                    errno.EPERM, "this disk cannot keep it from other accounts", aside
                )
            file.write(f"{token} {about.st_ino}\n".encode())
            file.flush()
            os.fsync(made)
        with _one_after_the_other(path.parent):
            return _put(aside, path, token)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside)


def _put(aside: str, path: Path, token: str) -> tuple[str, bool]:
    replaced = False
    for _ in range(_TRIES):
        if _is_put(aside, path):
            return token, replaced
        kept, spoiled = _kept(path)
        if kept:
            return kept, replaced
        if spoiled:
            path.unlink(missing_ok=True)
            replaced = True
    raise FileExistsError(errno.EEXIST, "another account or program keeps writing it", path)


@contextlib.contextmanager
def _one_after_the_other(folder: Path) -> Iterator[None]:
    """Let no two starts take away what is not believed: the second would take the first's new one.

    A disk without locks, or somebody who keeps this one, does not keep a start from going on.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        yield
    finally:
        os.close(opened)


def _is_put(aside: str, path: Path) -> bool:
    """Give a whole file its name, unless that is taken: of several starts at once one does it."""
    try:
        os.link(aside, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_SECOND_NAMES:
            raise
        if os.path.lexists(path):
            return False
        os.rename(aside, path)
    return True


def _is_mine_alone(about: os.stat_result) -> bool:
    others = stat.S_IRWXG | stat.S_IRWXO
    return about.st_uid == os.geteuid() and not about.st_mode & others
