"""Read JSON rows one by one, and name the row that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from tunebook.data.chess.pgn import MOVETEXT, split_games
from tunebook.data.sources import MAX_ROW_BYTES, SourceFile, read_lines, read_whole
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
    """Yield the objects of a .json list, the lines of a .jsonl file or the games of a .pgn file."""
    if file.kind == "jsonl":
        yield from _read_jsonl(file)
    elif file.kind == "pgn":
        yield from _read_pgn(file)
    else:
        yield from _read_json(file)


def _read_pgn(file: SourceFile) -> Iterator[RawRow]:
    """Yield each game's header tags, with its moves as text under a name that no tag has."""
    found = 0
    for found, game in enumerate(split_games(read_lines(file), str(file.path)), start=1):
        yield RawRow(file, found, {**game.tags, MOVETEXT: game.movetext})
    if not found:
        raise DataError(f"{file.path} is empty; put games into it or leave it out")


def _read_jsonl(file: SourceFile) -> Iterator[RawRow]:
    found = False
    for number, line in read_lines(file):
        if not line.strip():
            continue
        found = True
        yield parse_line(file, number, line)
    if not found:
        raise DataError(f"{file.path} is empty; put rows into it or leave it out")


def parse_line(file: SourceFile, number: int, line: str | bytes) -> RawRow:
    """Parse one line of a .jsonl file; DataError when it is not one JSON object."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(
            f"{file.path}: line {number} is not valid JSON: {_reason(error)} (column "
            f"{error.colno}); each line must be one JSON object"
        ) from None
    return _as_row(file, number, value)


def _read_json(file: SourceFile) -> Iterator[RawRow]:
    raw = read_whole(file)
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        hint = "; one object per line is .jsonl" if _looks_like_jsonl(raw) else "; correct it there"
        raise DataError(
            f"{file.path} is not valid JSON: line {error.lineno}, column {error.colno}: "
            f"{_reason(error)}{hint}"
        ) from None
    if not isinstance(found, list):
        raise DataError(
            f"{file.path} holds {_kind_name(found)}, not a list of rows; write it as "
            "[{...}, {...}] or as .jsonl with one object per line"
        )
    if not found:
        raise DataError(f"{file.path} holds no rows; put rows into it or leave it out")
    for number, value in enumerate(found, start=1):
        yield _as_row(file, number, value)


def _looks_like_jsonl(raw: bytes) -> bool:
    first, _, rest = raw.lstrip().partition(b"\n")
    if not first.startswith(b"{") or not rest.strip() or len(first) > MAX_ROW_BYTES:
        return False
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return False
    return True


def _as_row(file: SourceFile, number: int, value: object) -> RawRow:
    if not isinstance(value, dict):
        unit = "line" if file.kind == "jsonl" else "row"
        raise DataError(
            f"{file.path}: {unit} {number} is {_kind_name(value)}, not an object with named values"
        )
    return RawRow(file, number, value)


def _reason(error: orjson.JSONDecodeError) -> str:
    return error.msg.partition(": line ")[0]


def _kind_name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")
