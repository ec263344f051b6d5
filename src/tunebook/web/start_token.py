"""The token of a book's pages: made once, and kept in the book where nobody else reads it.

127.0.0.1 is every account of a machine. Who knows the token may read and write the book; it is in
the address that `tunebook ui` prints, and stays the same, so that a bookmark and a browser that
was let in go on working when the server is started again.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from tunebook.book.places import make_hidden_dir, ui_token_file

_KEPT = re.compile(r"([A-Za-z0-9_-]{43}) (\d{1,20})\n")
"""The token, and the number of the file on its disk: a copy of the file has another."""


def start_token(book: Path) -> tuple[str, str]:
    """Give the token of a book, and a sentence for the user where it is not the one of last time.

    A file that others may read or have written, or that came with a copied book, is not believed:
    whoever made it would know the token. Where none can be kept, the token is for this start.
    """
    path, said = ui_token_file(book), ""
    with contextlib.suppress(FileNotFoundError):
        if found := _kept(path):
            return found, ""
        said = (
            f"the token in {path} may be known to others (it was copied, or is not readable by "
            "you alone); a new one was made, so open the new address"
        )
    token = secrets.token_urlsafe(32)
    try:
        make_hidden_dir(book)
        refused = _keep(path, token)
    except OSError as error:
        refused = error.strerror or str(error)
    if refused:
        said = f"the token cannot be kept in {path} ({refused}), so it is for this start only"
    return token, said


def _kept(path: Path) -> str | None:
    """Read the token; None for one that is not to be believed, FileNotFoundError for none."""
    try:
        # A pipe of that name would be waited for, and a link could lead anywhere.
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    with open(opened, "rb") as file:
        about = os.fstat(opened)
        if not stat.S_ISREG(about.st_mode) or not _is_mine_alone(about):
            return None
        found = _KEPT.fullmatch(file.read(200).decode("ascii", "replace"))
    return found[1] if found and int(found[2]) == about.st_ino else None


def _keep(path: Path, token: str) -> str:
    """Write the token for this account alone; gives why that cannot be, or nothing."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            about = os.fstat(file.fileno())
            if not _is_mine_alone(about):  # a disk that knows no owners
                return "this disk cannot keep it from other accounts"
            file.write(f"{token} {about.st_ino}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return ""


def _is_mine_alone(about: os.stat_result) -> bool:
    others = stat.S_IRWXG | stat.S_IRWXO
    return about.st_uid == os.geteuid() and not about.st_mode & others
