"""Write the run file's JSON Schema where editors find it."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.places import find_book
from tunebook.errors import StorageError
from tunebook.recipe.schema import SCHEMA_NAME, schema_text


def write_schema(start: Path) -> Path:
    """Write the schema into the book around `start`; BookError when there is none."""
    path = find_book(start) / ".tunebook" / SCHEMA_NAME
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path}: the schema cannot be written: {error.strerror}") from None
    return path
