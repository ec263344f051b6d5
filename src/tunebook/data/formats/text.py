"""Text without roles: a text, or the title and abstract of a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.data.formats.shape import DOCUMENT, Shape, Turns, text_of
from tunebook.recipe.tree import Source
from tunebook.records import Message

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow


def build_text(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one text."""
    return [Turns((Message("text", text_of(row, "text", "text", mapping)),))]


def build_paper(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build the text of a paper: its title, an empty line, its abstract."""
    title = text_of(row, "text", "title", mapping).strip()
    abstract = text_of(row, "text", "abstract", mapping).strip()
    return [Turns((Message("text", "\n\n".join(filter(None, (title, abstract)))),))]


SHAPES = (
    Shape("text", ("text",), build_text=build_text, optional=(DOCUMENT,)),
    Shape(
        "text",
        ("title", "abstract"),
        build_text=build_paper,
        optional=(DOCUMENT,),
        about="title, empty line, abstract",
    ),
)
