"""Write the run file's JSON Schema where editors find it."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.atomic import write_text
from tunebook.book.places import find_book
from tunebook.book.writing import make_folder
from tunebook.errors import StorageError
from tunebook.recipe.schema import SCHEMA_NAME, schema_text


def write_schema(start: Path) -> Path:
    """Write the schema into the book around `start`; BookError when there is none."""
    book = find_book(start)
    path = book / ".tunebook" / SCHEMA_NAME
    try:
        make_folder(book, path.parent)
        write_text(path, schema_text())
    except OSError as error:
        raise StorageError(f"{path}: the schema cannot be written: {error.strerror}") from None
    return path
