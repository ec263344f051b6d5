"""The rows of a source's files, by no part of the pipeline but what opens and parses a file."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.data.detect import Detected
from tunebook.data.documents import TextPart, read_documents
from tunebook.data.pieces import size_of_row
from tunebook.data.rows import RawRow, read_rows
from tunebook.data.sources import Located, SourceFile, explained, read_lines
from tunebook.recipe.tree import Source

_READ_BYTES = 64 * 2**20
_COUNTED_BYTES = 2**30
_UNPACKED = 5  # times the size of an archive, about

Raw = RawRow | TextPart | tuple[int, str]
"""What stands in a file: a row, a document, or a line with its number."""


def count_rows_of_files(located: Located, detected: Detected, source: Source) -> list[int] | None:
    """Count the rows of each file; None where that would take long.

    Up to 64 MB are read row by row. Of larger `.jsonl` files, up to 1 GB, lines are counted that
    are not blank.
    """
    with explained(located.files[0].path):
        n_bytes = sum(file.path.stat().st_size for file in located.files)
    packed = any(file.path.suffix.lower() in (".gz", ".zst") for file in located.files)
    if n_bytes * (_UNPACKED if packed else 1) <= _READ_BYTES:
        return [sum(1 for _ in raw_rows(file, detected, source)) for file in located.files]
    if located.kind == "jsonl" and not packed and n_bytes <= _COUNTED_BYTES:
        return [_count_lines(file) for file in located.files]
    return None


def raw_rows(file: SourceFile, detected: Detected, source: Source) -> Iterator[Raw]:
    """Yield what stands in a file, blank lines left out."""
    if file.kind != "text":
        yield from read_rows(file)
    elif detected.format == "lines":
        yield from ((number, line) for number, line in read_lines(file) if line.strip())
    else:
        yield from read_documents(file, source.document, source.separator)


def row_of(raw: Raw) -> int:
    """Give the number of a row in its file."""
    return raw[0] if isinstance(raw, tuple) else raw.row


def size_of(raw: Raw) -> int:
    """Give about how large a row is, in characters."""
    if isinstance(raw, RawRow):
        return size_of_row(raw)
    return len(raw[1]) if isinstance(raw, tuple) else sum(len(m.content) for m in raw.messages)


def _count_lines(file: SourceFile) -> int:
    with explained(file.path), file.path.open("rb") as stream:
        return sum(1 for line in stream if line.strip())
