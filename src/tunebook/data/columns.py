"""Find what is wrong with the columns that a run file or a command line names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tunebook.data.formats import SHAPES
from tunebook.data.formats.broken import columns_advice, list_keys
from tunebook.data.rows import RawRow
from tunebook.errors import DataError
from tunebook.recipe.tree import Source

_LONG_NAME = 30
_WORDS_OF_A_NAME = 4


def check_columns(first: RawRow, columns: Sequence[str], source: Source) -> None:
    """Raise DataError for a mapping that is turned around, or names a column by a wrong letter.

    `columns` are those of the first rows; what is near none of them is left to the format.
    """
    known = _known_names()
    for name, own in source.columns.items():
        if name not in known and name in columns and own in known:
            raise DataError(
                f"{source.path}: columns: {own}, not {name}, comes first; write "
                f"{columns_advice({own: name})}"
            )
        near = difflib.get_close_matches(own, columns, n=1)
        if own not in columns and near:
            raise DataError(
                f"{first.place}: the row has no {own!r} (for {name}); did you mean {near[0]!r}? it "
                f"has {list_keys(columns)}; write {columns_advice({name: near[0]})}"
            )


def perhaps_a_row(first: RawRow) -> str:
    """Say so when what names the columns of a table looks like a row of it."""
    names = [*first.values]
    if first.file.kind not in ("csv", "tsv") or _known_names() & set(names):
        return ""
    if not any(len(n) > _LONG_NAME or len(n.split()) > _WORDS_OF_A_NAME for n in names):
        return ""
    return (
        "the first line of the file looks like a row, and is taken for the names of its columns: "
        "if it is one, put a line such as `prompt,completion` above it; else "
    )


def _known_names() -> set[str]:
    return {name for shape in SHAPES for name in (*shape.known, *shape.aliases)}
