"""Make a book."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.places import MARK, create_book
from tunebook.workflows.notebook import build_notebook


def init_book(folder: str | Path) -> Path:
    """Make a book in a folder and return its path; BookError when there is one already."""
    book = create_book(Path(folder))
    try:
        build_notebook(book)
    except BaseException:
        # Without its pages it is none yet, and the same command makes it once there is room.
        (book / MARK).unlink(missing_ok=True)
        raise
    return book
