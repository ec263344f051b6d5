"""A prompt and what follows it, with nothing between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.data.formats.shape import DOCUMENT, Shape, Turns, text_of
from tunebook.recipe.tree import Source
from tunebook.records import Message

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow


def build(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example of a prompt and its completion."""
    prompt = text_of(row, "completion", "prompt", mapping)
    answer = text_of(row, "completion", "completion", mapping)
    return [Turns((Message("user", prompt), Message("assistant", answer)))]


SHAPES = (
    Shape(
        "completion",
        ("prompt", "completion"),
        build,
        optional=(DOCUMENT,),
        aliases={"response": "completion"},
    ),
)
