"""Read JSON rows one by one, and name the row that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from tunebook.data.bad_files import all_blank
from tunebook.data.chess.pgn import MOVETEXT, split_games
from tunebook.data.json_rows import explain, is_too_large, kind_name, read_json, too_large
from tunebook.data.sources import SourceFile, read_lines
from tunebook.data.tables import read_arrow, read_csv, read_parquet
from tunebook.errors import DataError

_UNITS = {"jsonl": "line", "pgn": "game"}


@dataclass(frozen=True, slots=True)
class RawRow:
    """One object as found; `row` counts from 1 (jsonl: the line; json, pgn: the place in it)."""

    file: SourceFile
    row: int
    values: Mapping[str, object]

    @property
    def place(self) -> str:
        """Say where the row is, as an editor counts."""
        unit = _UNITS.get(self.file.kind, "row")
        return f"{self.file.path}, {unit} {self.row}"


def read_rows(file: SourceFile) -> Iterator[RawRow]:
    """Yield the rows of a file of any kind but plain text."""
    if file.kind == "jsonl":
        yield from _read_jsonl(file)
    elif file.kind == "pgn":
        yield from _read_pgn(file)
    elif file.kind == "json":
        for number, value in enumerate(read_json(file), start=1):
            yield _as_row(file, number, value)
    else:
        for number, values in enumerate(_TABLES[file.kind](file), start=1):
            yield RawRow(file, number, values)


_TABLES = {"csv": read_csv, "tsv": read_csv, "parquet": read_parquet, "arrow": read_arrow}


def _read_pgn(file: SourceFile) -> Iterator[RawRow]:
    """Yield each game's header tags, with its moves as text under a name that no tag has."""
    found = 0
    for found, game in enumerate(split_games(read_lines(file), str(file.path)), start=1):
        yield RawRow(file, found, {**game.tags, MOVETEXT: game.movetext})
    if not found:
        raise DataError(f"{file.path} is empty; put games into it or leave it out")


def _read_jsonl(file: SourceFile) -> Iterator[RawRow]:
    found, blank = False, 0
    for number, line in read_lines(file):
        if not line.strip():
            blank += 1
            continue
        found = True
        yield parse_line(file, number, line)
    if not found:
        raise all_blank(file.path, blank)


def parse_line(file: SourceFile, number: int, line: str | bytes) -> RawRow:
    """Parse one line of a .jsonl file; DataError when it is not one JSON object."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if is_too_large(error):
            place = f"{file.path}: line {number} (column {error.colno})"
            raise too_large(place) from None
        raise DataError(
            f"{file.path}: line {number} is not valid JSON: {explain(error, line)} (column "
            f"{error.colno}); each line must be one JSON object"
        ) from None
    return _as_row(file, number, value)


def _as_row(file: SourceFile, number: int, value: object) -> RawRow:
    if not isinstance(value, dict):
        unit = "line" if file.kind == "jsonl" else "row"
        way_out = "; write each row as {name: value}"
        if file.kind == "jsonl" and isinstance(value, list):
            way_out = "; if the file is one list of rows, name it .json"
        raise DataError(
            f"{file.path}: {unit} {number} is {kind_name(value)}, not an object with named "
            f"values{way_out}"
        )
    return RawRow(file, number, value)
