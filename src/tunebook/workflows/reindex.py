"""Make the index of a book anew."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.index import rebuild


def reindex_book(book: Path) -> int:
    """Read every run folder again and return the number of runs.

    Raises StorageError where the index cannot be written.
    """
    return rebuild(book)
