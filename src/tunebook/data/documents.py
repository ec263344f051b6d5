"""Cut plain text into documents: by file, line, heading or separator line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tunebook.data.bad_files import all_blank
from tunebook.data.sources import MAX_ROW_BYTES, SourceFile, read_lines
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Message

_HEADING = re.compile(r"# +\S")


@dataclass(frozen=True, slots=True)
class TextPart:
    """The messages of one row; `by_file` says that its document is the whole file."""

    row: int
    messages: tuple[Message, ...]
    by_file: bool


def choose_row_unit(source: Source) -> str:
    """Say what a document of rows is: `row`, or `file` for all rows of a file together."""
    if source.document in ("auto", "row", "line"):
        return "row"
    if source.document == "file":
        return "file"
    raise DataError(
        f"{source.path}: document: {source.document} is for plain text; rows take row or file"
    )


def read_documents(file: SourceFile, unit: str, separator: str) -> Iterator[TextPart]:
    """Yield the documents of a text file, blank ones left out.

    `auto` is by separator line when there is one, else the whole file. A heading is a line that
    begins with `# `. Raises DataError when no line of the named unit is found, or nothing is said.
    """
    if unit in ("line", "row"):
        yield from _by_line(file)
        return
    row, marks, parts, size, number = 0, 0, list[str](), 0, 0
    for number, line in read_lines(file):
        is_mark = _is_mark(line, unit, separator)
        if is_mark:
            marks += 1
            if _said(parts):
                row += 1
                yield _document(row, parts, by_file=False)
            parts, size = [], 0
        if not is_mark or unit == "heading":
            parts.append(line)
            size += len(line)
        if size > MAX_ROW_BYTES:
            raise DataError(
                f"{file.path}: the document that ends at line {number} is over 64 MiB; say what a "
                "document is, as `document: line`, `heading` or `separator`"
            )
    if marks == 0 and unit in ("heading", "separator"):
        wanted = "a line that begins with `# `" if unit == "heading" else f"a line {separator!r}"
        raise DataError(
            f"{file.path}: document: {unit} needs {wanted}, and there is none; say `document: "
            "file` or `line`" + (", or another `separator:`" if unit == "separator" else "")
        )
    if _said(parts):
        yield _document(row + 1, parts, by_file=marks == 0)
    elif not row and marks:
        raise DataError(f"{file.path} holds separator lines and no document; leave it out")
    elif not row:
        raise all_blank(file.path, number)


def is_heading(line: str) -> bool:
    """Tell whether a line begins with `# `."""
    return _HEADING.match(line) is not None


def _is_mark(line: str, unit: str, separator: str) -> bool:
    if unit in ("auto", "separator"):
        return line.rstrip("\r\n") == separator
    return unit == "heading" and is_heading(line)


def _said(parts: list[str]) -> bool:
    return any(part.strip() for part in parts)


def _document(row: int, parts: list[str], *, by_file: bool) -> TextPart:
    # The line ends around a document belong to its marks, not to what it says.
    return TextPart(row, (Message("text", "".join(parts).strip("\r\n")),), by_file)


def _by_line(file: SourceFile) -> Iterator[TextPart]:
    for number, line in read_lines(file):
        if line.strip():
            yield TextPart(number, (Message("text", line.rstrip("\r\n")),), by_file=False)
