"""What is said of a row that its format cannot read: what is wrong with it, and the way out.

Names of columns are for a whole source. They are advised where its first row lacks a key; where
a later row does, other names would break all rows before it.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from tunebook.errors import DataError
from tunebook.units import shorten

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow

_SHOWN_CHARACTERS = 40
_SHOWN_KEYS = 12
_ALIKE = 0.75
_TYPED = ("parquet", "arrow")
_OUT = "take the row out of the file"


def missing_keys(
    row: RawRow, found_format: str, mapping: Mapping[str, str], missing: Sequence[str]
) -> DataError:
    """Write the error of a first row that lacks keys, with what it has and the way out."""
    wanted = [f"{mapping[n]!r} (for {n})" if n in mapping else repr(n) for n in missing]
    return DataError(
        f"{row.place}: the row has no {' and no '.join(wanted)}; it has "
        f"{list_keys(row.values)}, and format {found_format} needs {' and '.join(missing)} in "
        f"every row; name your own columns as {columns_advice({missing[-1]: 'your_name'})}"
    )


def lacking_key(row: RawRow, found_format: str, mapping: Mapping[str, str], name: str) -> DataError:
    """Write the error of a row that lacks a key which the rows before it have."""
    from tunebook.data.formats import shapes_of  # the formats import this module

    column = mapping.get(name, name)
    lacks = f"{row.place}: the row has no {column!r}"
    if name in mapping and column != name:
        lacks += f" (for {name})"
    lacks += ", which the rows before it have"
    known = {mapping.get(n, n) for shape in shapes_of(found_format) for n in shape.known}
    own = {key.lower(): key for key in row.values if key not in known}
    near = difflib.get_close_matches(column.lower(), own, n=1, cutoff=_ALIKE)
    if near:
        return DataError(f"{lacks}; it has {shorten(own[near[0]])!r}; did you mean {column!r}?")
    if (other := _read_as(row)) is not None:
        keys, as_format = other
        return DataError(
            f"{row.place}: the row has {keys}, as format {as_format}, and the rows before it have "
            f"{column}, as format {found_format}; put the rows of each format into a file of their "
            "own"
        )
    return DataError(f"{lacks}; it has {list_keys(row.values)}; fill it in, or {_OUT}")


def _read_as(row: RawRow) -> tuple[str, str] | None:
    """Give the keys and the format that a row has by itself; plain text only if it has no other."""
    from tunebook.data.formats import SHAPES

    fits = [
        (" and ".join(columns), shape.format)
        for shape in SHAPES
        if (columns := [shape.columns.get(n, n) for n in shape.needed])
        and set(columns) <= set(row.values)
        and shape.fits(row.values, shape.columns)
    ]
    return next((fit for fit in fits if fit[1] != "text"), fits[0] if fits else None)


def columns_advice(columns: Mapping[str, str]) -> str:
    """Write a mapping for a run file and for the command line."""
    shown = {name: shorten(own) for name, own in columns.items()}
    stated = ", ".join(f"{name}: {own}" for name, own in shown.items())
    options = " ".join(f"--column {name}={shlex.quote(own)}" for name, own in shown.items())
    return f"`columns: {{{stated}}}` (on the command line `{options}`)"


def not_text(row: RawRow, column: str, value: object) -> DataError:
    """Write the error of a value that is no text, with what makes a text of it."""
    if value is None:
        # In quotation marks it would be the word null, and be trained on.
        return DataError(f"{row.place}: {column} is null, not a text; fill it in, or {_OUT}")
    try:
        shown = orjson.dumps(value).decode()
    except TypeError:  # nested deeper than orjson writes, or a number it does not know
        shown = f"a {type(value).__name__}"
    shown = shorten(shown, _SHOWN_CHARACTERS)
    if isinstance(value, (list, dict)):
        kind = "a list" if isinstance(value, list) else "an object"
        said = f"{kind} and not one text"
        if shown[0] in "[{":
            said = f"{shown}, {said}"
        return DataError(f"{row.place}: {column} is {said}; write it as one text, or {_OUT}")
    way_out = "put it in quotation marks"
    if row.file.kind in _TYPED:
        way_out = "make the column one of texts"
    return DataError(f"{row.place}: {column} is {shown}, not a text; {way_out}")


def list_keys(values: Iterable[str]) -> str:
    """List the keys of a row, the first twelve by name."""
    keys = list(values)
    shown = ", ".join(map(shorten, keys[:_SHOWN_KEYS])) or "none"
    more = len(keys) - _SHOWN_KEYS
    return f"{shown} and {more} more" if more > 0 else shown
