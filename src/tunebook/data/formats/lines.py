"""`keyword: text`, one to a line of a text file or to a row of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.data.formats.shape import DOCUMENT, Shape, Turns, text_of
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Message

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow

# A lone carriage return inside is a line end that was not seen: no line holds one.
KEYWORD_LINE = re.compile(r"^[ \t]*([^\s:][^:\r\n]{0,79}?)[ \t]*:[ \t]+(\S[^\r\n]*)$")
_MAX_KEYWORD_WORDS = 6
MARKER = "<|endoftext|>"
"""What some tables wrote around their lines; it is no part of what a line says."""


def split_keyword(line: str) -> tuple[str, str] | None:
    """Split `keyword: text`; None when the line is not of that form."""
    found = KEYWORD_LINE.match(line.rstrip("\r\n"))
    if found is None or len(found[1].split()) > _MAX_KEYWORD_WORDS:
        return None
    return found[1], found[2]


def without_markers(text: str) -> str:
    """Take the literal end markers off both ends of a line."""
    return text.strip().removeprefix(MARKER).removesuffix(MARKER).strip()


def build(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example of a keyword and its text."""
    keyword, text = _parts(row, mapping)
    return [Turns((Message("user", keyword), Message("assistant", text)))]


def build_text(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build the line as text."""
    _parts(row, mapping)
    return [Turns((Message("text", without_markers(text_of(row, "lines", "text", mapping))),))]


def build_written(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example of a row that has keyword and text apart, as tunebook writes them."""
    keyword, text = (text_of(row, "lines", key, mapping) for key in ("keyword", "text"))
    return [Turns((Message("user", keyword), Message("assistant", text)))]


def build_written_text(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build the line of a row that has keyword and text apart."""
    keyword, text = (text_of(row, "lines", key, mapping) for key in ("keyword", "text"))
    return [Turns((Message("text", f"{keyword}: {text}"),))]


def _is_written(values: Mapping[str, object], columns: Mapping[str, str]) -> bool:
    return values.get("format") == "lines"


def _parts(row: RawRow, mapping: Mapping[str, str]) -> tuple[str, str]:
    line = without_markers(text_of(row, "lines", "text", mapping))
    found = split_keyword(line)
    if found is None:
        raise DataError(
            f"{row.place}: format lines needs `keyword: text`, and the row says {line[:40]!r}; "
            "correct it, or say `format: text` with `stage: cpt`"
        )
    return found


def _is_keyword_line(values: Mapping[str, object], columns: Mapping[str, str]) -> bool:
    text = values.get(columns.get("text", "text"))
    # Only marked rows are lines by detection: a text may begin with a word and a colon.
    return (
        isinstance(text, str)
        and text.strip().startswith(MARKER)
        and split_keyword(without_markers(text)) is not None
    )


SHAPES = (
    Shape(
        "lines",
        ("text",),
        build,
        build_text,
        fits=_is_keyword_line,
        about=f"each text is `keyword: text`, the {MARKER} around it left out",
    ),
    Shape(
        "lines",
        ("keyword", "text", "format"),
        build_written,
        build_written_text,
        optional=(DOCUMENT,),
        fits=_is_written,
        about="keyword and text apart, as tunebook writes them",
    ),
)
