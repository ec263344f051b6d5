"""Questions with answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.data.formats.shape import DOCUMENT, Shape, Turns, text_of
from tunebook.recipe.tree import Source
from tunebook.records import Message

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow


def build(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example of a question and its answer."""
    question = text_of(row, "qa", "question", mapping)
    answer = text_of(row, "qa", "answer", mapping)
    return [Turns((Message("user", question), Message("assistant", answer)))]


def build_measured(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example of a question and a quantity: the answer with its unit behind it."""
    question = text_of(row, "qa", "question", mapping)
    said = [text_of(row, "qa", key, mapping).strip() for key in ("answer", "unit")]
    answer = " ".join(filter(None, said)) if said[0] else ""
    return [Turns((Message("user", question), Message("assistant", answer)))]


SHAPES = (
    Shape("qa", ("question", "answer"), build, optional=(DOCUMENT,)),
    Shape(
        "qa",
        ("question", "answer", "unit"),
        build_measured,
        optional=(DOCUMENT,),
        about="the unit stands behind the answer",
    ),
)
