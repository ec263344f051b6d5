"""The formats of rows, one to a file: what each needs, and what makes its examples.

A format is added as a file with `SHAPES` and a line here. Text files are read by line or by
document (`tunebook.data.documents`); formats `lines` and `text` are theirs too.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunebook.data.formats import (
    alpaca,
    chat,
    chess,
    completion,
    grounded_talk,
    lines,
    persona,
    persona_chat,
    qa,
    text,
)
from tunebook.data.formats.shape import Builder, Shape, Turns, stated_document
from tunebook.errors import DataError

__all__ = [
    "FORMATS",
    "SHAPES",
    "Builder",
    "Shape",
    "Turns",
    "find_builder",
    "shapes_of",
    "stages_of",
    "stated_document",
]

SHAPES: tuple[Shape, ...] = (
    *alpaca.SHAPES,
    *chat.SHAPES,
    *completion.SHAPES,
    *qa.SHAPES,
    *persona.SHAPES,
    *persona_chat.SHAPES,
    *grounded_talk.SHAPES,
    *text.SHAPES,
    *lines.SHAPES,
    *chess.SHAPES,
)
"""Every shape, in the order in which they are named to a user."""

FORMATS: tuple[str, ...] = tuple(dict.fromkeys(shape.format for shape in SHAPES))


def shapes_of(found_format: str) -> tuple[Shape, ...]:
    """Give the shapes of a format, the most usual first."""
    return tuple(shape for shape in SHAPES if shape.format == found_format)


def find_builder(found_format: str, place: int, stage: str) -> Builder:
    """Give what builds the examples of a format's shape number `place` at a stage.

    Raises DataError when rows of that shape are not for that stage.
    """
    shape = shapes_of(found_format)[place]
    build = shape.build_text if stage == "cpt" else shape.build
    if build is None:
        other = "sft" if stage == "cpt" else "cpt"
        raise DataError(
            f"rows with {' and '.join(shape.needed)} are not for stage {stage}; say `stage: "
            f"{other}`"
        )
    return build


def stages_of(found_format: str) -> Mapping[str, bool]:
    """Say at which stages a format can be trained on."""
    shapes = shapes_of(found_format)
    return {
        "sft": any(shape.build is not None for shape in shapes),
        "cpt": any(shape.build_text is not None for shape in shapes),
    }
