"""What a format is to the rest: the keys its rows have, and what makes examples of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunebook.data.formats.broken import lacking_key, not_text
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Message

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow

DOCUMENT = "document"
"""The column that names the document of a row."""


@dataclass(frozen=True, slots=True)
class Turns:
    """What a format makes of a row: an example's messages, and what of them may be left out.

    `document` is what a split counts the row by when that is not what its examples say: a game of
    chess stays on its side of the split whatever is asked about it. Of rows that name their
    document in a column it is that name.
    """

    messages: tuple[Message, ...]
    window_from: int | None = None
    document: str | None = None


Builder = Callable[["RawRow", Mapping[str, str], Source], Sequence[Turns]]
"""Builds the examples of a row, at least one; raises DataError naming the row that is wrong."""


def _any_row(values: Mapping[str, object], columns: Mapping[str, str]) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Shape:
    """One way in which rows of a format are written; a format may have several.

    `needed` and `optional` are the names that `columns:` maps; `columns` says which of them have
    another name in files of this shape, `aliases` which names a run file may use for them. `fits`
    looks at the values of a row that has the needed keys. `build` makes prompts and answers (stage
    sft), `build_text` makes text (stage cpt); None: the shape has none. All are functions of a
    module, so that they travel to worker processes.
    """

    format: str
    needed: tuple[str, ...]
    build: Builder | None = None
    build_text: Builder | None = None
    optional: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    fits: Callable[[Mapping[str, object], Mapping[str, str]], bool] = _any_row
    about: str = ""

    @property
    def known(self) -> tuple[str, ...]:
        """Every name that `columns:` may map."""
        return (*self.needed, *self.optional)


def stated_document(row: RawRow, shape: Shape, mapping: Mapping[str, str]) -> str | None:
    """Give the document that a row names, so that rows of one talk or game stay together.

    Nothing, an empty name and a list or object in a column that nobody mapped name none. Raises
    DataError when the run file says that a column names documents and it holds something else.
    """
    column = mapping.get(DOCUMENT, DOCUMENT)
    value = row.values.get(column)
    if DOCUMENT not in shape.optional or value is None or value == "":
        return None
    if any(mapping.get(name, name) == column for name in shape.needed):
        return None
    if isinstance(value, (str, int)):
        return str(value)
    if DOCUMENT not in mapping:
        return None
    raise DataError(
        f"{row.place}: {column} is to name the document of a row and is a {type(value).__name__}; "
        "name a column of texts or whole numbers"
    )


def text_of(row: RawRow, found_format: str, key: str, mapping: Mapping[str, str]) -> str:
    """Take a text from a row; DataError when it is missing or no text."""
    column = mapping.get(key, key)
    if column not in row.values:
        raise lacking_key(row, found_format, mapping, key)
    value = row.values[column]
    if not isinstance(value, str):
        raise not_text(row, column, value)
    return value
