"""Count the rows of a source's files, by no part of the pipeline but what opens a file."""

from __future__ import annotations

from tunebook.data.detect import Detected
from tunebook.data.documents import read_documents
from tunebook.data.rows import read_rows
from tunebook.data.sources import Located, SourceFile, explained, read_lines
from tunebook.recipe.tree import Source

_READ_BYTES = 64 * 2**20
_COUNTED_BYTES = 2**30
_UNPACKED = 5  # times the size of an archive, about


def count_rows_of_files(located: Located, detected: Detected, source: Source) -> list[int] | None:
    """Count the rows of each file; None where that would take long.

    Up to 64 MB are read row by row. Of larger `.jsonl` files, up to 1 GB, lines are counted that
    are not blank.
    """
    with explained(located.files[0].path):
        n_bytes = sum(file.path.stat().st_size for file in located.files)
    packed = any(file.path.suffix.lower() in (".gz", ".zst") for file in located.files)
    if n_bytes * (_UNPACKED if packed else 1) <= _READ_BYTES:
        return [_count(file, detected, source) for file in located.files]
    if located.kind == "jsonl" and not packed and n_bytes <= _COUNTED_BYTES:
        return [_count_lines(file) for file in located.files]
    return None


def _count(file: SourceFile, detected: Detected, source: Source) -> int:
    if file.kind != "text":
        return sum(1 for _ in read_rows(file))
    if detected.format == "lines":
        return sum(1 for _, line in read_lines(file) if line.strip())
    return sum(1 for _ in read_documents(file, source.document, source.separator))


def _count_lines(file: SourceFile) -> int:
    with explained(file.path), file.path.open("rb") as stream:
        return sum(1 for line in stream if line.strip())
