"""Make the index of a book anew."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.index import index_path, rebuild
from tunebook.errors import StorageError


def reindex_book(book: Path) -> int:
    """Read every run folder again and return the number of runs.

    Raises StorageError where the index cannot be written.
    """
    count = rebuild(book)
    if not index_path(book).exists():
        raise StorageError(
            f"the index cannot be written to {index_path(book).parent}: the disk is full or "
            "read-only; free space or make it writable (the book is whole without it)"
        )
    return count
