"""Make a book."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.places import create_book


def init_book(folder: str | Path) -> Path:
    """Make a book in a folder and return its path; BookError when there is one already."""
    return create_book(Path(folder))
