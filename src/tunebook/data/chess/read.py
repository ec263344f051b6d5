"""From a row of a file to a game that was played through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.data.chess.games import RESULTS, WAY_OUT, BadGame, Game, check_game
from tunebook.data.chess.pgn import MOVETEXT, read_moves
from tunebook.errors import DataError

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow  # which reads .pgn files with the help of this package

_TAG_NAME = re.compile(r"[A-Za-z0-9_]+")
_UCI_MOVE = re.compile(r"[a-h][1-8][a-h][1-8][qrbn]?")


def game_of_row(row: RawRow, mapping: Mapping[str, str], found_format: str) -> Game:
    """Read a row of format chess-uci or pgn.

    Raises BadGame for a game that cannot be used, DataError for a row that holds none.
    """
    if found_format == "pgn":
        return _of_pgn(row)
    if "PuzzleId" in row.values:
        raise DataError(
            f"{row.place}: this is a chess puzzle (PuzzleId), not a game; tunebook trains on games"
        )
    column = mapping.get("Moves", "Moves")
    if column not in row.values:
        raise DataError(
            f"{row.place}: the row has no {column!r}; format chess-uci needs Moves; name your own "
            "column as `columns: {Moves: your_name}`"
        )
    moves = row.values.get(column)
    if isinstance(moves, str):
        moves = moves.split()
    if not isinstance(moves, list) or not all(isinstance(move, str) for move in moves):
        raise BadGame(
            "no list of moves",
            f"{row.place}: {column} holds no list of moves; format chess-uci needs UCI moves in a "
            f"list, or in a text with spaces between; {WAY_OUT}",
        )
    names = {own: name for name, own in mapping.items()}
    given = {names.get(key, key): value for key, value in row.values.items() if key != column}
    return check_game(_tags(given, row.place), moves, row.place)


def looks_like_uci(value: object) -> bool:
    """Say whether a value is a list or a text of UCI moves."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not words:
        return False
    return all(isinstance(word, str) and _UCI_MOVE.fullmatch(word) for word in words)


def _of_pgn(row: RawRow) -> Game:
    text = row.values.get(MOVETEXT)
    moves, result = read_moves(text if isinstance(text, str) else "")
    given = {key: value for key, value in row.values.items() if key != MOVETEXT}
    tags = _tags(given, row.place)
    stated = tags.get("Result", "*")
    if result not in (None, "*") and stated not in ("*", "?", result):
        raise BadGame(
            "wrong result",
            f"{row.place}: the header says Result {stated}, and the moves end with {result}; "
            f"{WAY_OUT}",
        )
    if stated in ("*", "?"):
        tags["Result"] = result or "*"
    game = check_game(tags, moves, row.place, "san")
    if result is None:
        raise BadGame(
            "no end",
            f"{row.place}: the moves do not end with a result ({', '.join(RESULTS)} or *), so the "
            f"game may be cut off; {WAY_OUT}",
        )
    return game


def _tags(given: Mapping[str, object], place: str) -> dict[str, str]:
    """Take what can be a header tag: a plain name, and a value of one line."""
    tags: dict[str, str] = {}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            continue
        if not _TAG_NAME.fullmatch(name):
            continue
        said = str(value).strip()
        if any(sign in said for sign in "\r\n"):
            raise BadGame(
                "broken header", f"{place}: {name} has a line break, {said[:40]!r}; {WAY_OUT}"
            )
        if said:
            tags[name] = said
    return tags
