"""Stream the games of a PGN file, and write games as PGN.

Files are cut into games without python-chess, so that a file of any size is read game by game and
a reader can count them. Comments, variations and annotations are left out; the moves are judged
where every game is (`check_game`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tunebook.data.chess.games import RESULTS, Game, number_moves
from tunebook.errors import DataError

MOVETEXT = "movetext"
"""The name under which a row of a .pgn file holds its moves as text, beside its tags."""

_TAG = re.compile(r'^\s*\[\s*([A-Za-z0-9_]+)\s+"((?:[^"\\]|\\.)*)"\s*\]\s*$')
_TOKENS = re.compile(
    r"(?P<comment>\{[^}]*\}|;[^\n]*)"
    r"|(?P<open>\()|(?P<close>\))"
    r"|(?P<result>1-0|0-1|1/2-1/2|\*)(?=[\s;{()]|$)"
    r"|(?P<number>\d+\s*\.+|\.+|\d+(?=\s))"
    r"|(?P<note>\$\d+|[!?]+)"
    r"|(?P<unended>\{)"
    r"|(?P<move>[^\s{}();!?$.]+)"
)
_ROSTER = ("Event", "Site", "Date", "Round", "White", "Black", "Result")
_MAX_GAME_CHARACTERS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PgnGame:
    """One game as found: the line it begins at, its header, and its moves as text."""

    line: int
    tags: Mapping[str, str]
    movetext: str


def split_games(lines: Iterable[tuple[int, str]], path: str) -> Iterator[PgnGame]:
    """Cut numbered lines of PGN into games.

    A game ends at the next header, or at its result when a blank line follows. Raises DataError
    for a header line that cannot be read and for a comment that is never closed.
    """
    begun = 0
    tags: dict[str, str] = {}
    parts: list[str] = []
    in_comment = ended = False
    size = 0
    for number, raw in lines:
        line = raw.rstrip("\r\n")
        if not in_comment and line.startswith("%"):
            continue
        is_tag = not in_comment and line.lstrip().startswith("[")
        blank = not line.strip()
        if (is_tag and parts) or (ended and not blank and not in_comment):
            yield PgnGame(begun, tags, "\n".join(parts))
            begun, tags, parts, size, ended = 0, {}, [], 0, False
        if blank:
            ended = ended or (bool(parts) and not in_comment and _ends_in_result(parts[-1]))
            continue
        begun = begun or number
        if is_tag:
            name, value = _tag(line, number, path)
            tags[name] = value
            continue
        parts.append(line)
        size += len(line)
        in_comment = _comment_open(line, in_comment)
        if size > _MAX_GAME_CHARACTERS:
            raise DataError(
                f"{path}: the game at line {begun} is over 16 MiB"
                + (", a comment { in it is never closed" if in_comment else "")
                + "; correct it there"
            )
    if in_comment:
        raise DataError(f"{path}: a comment of the game at line {begun} is never closed; add a }}")
    if tags or parts:
        yield PgnGame(begun, tags, "\n".join(parts))


def read_moves(movetext: str) -> tuple[list[str], str | None]:
    """Read the main line of a game: its moves, and the result it ends with.

    Anything that is no comment, variation, number or annotation counts as a move, so that a wrong
    one is refused where the game is played through.
    """
    moves: list[str] = []
    result: str | None = None
    depth = 0
    for token in _TOKENS.finditer(movetext):
        kind = token.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(depth - 1, 0)
        elif depth == 0 and kind == "result":
            result = token[0]
        elif depth == 0 and kind == "move":
            moves.append(token[0])
    return moves, result


def write_game(game: Game) -> str:
    """Write a game as PGN with the seven tags that every game must have, then the other ones."""
    tags = dict.fromkeys(_ROSTER, "?") | {"Date": "????.??.??"} | dict(game.tags)
    tags["Result"] = game.result
    if game.start:
        tags |= {"SetUp": "1", "FEN": game.start}
    return f"{write_header(tags)}\n{number_moves(game, game.san)} {game.result}\n"


def write_header(tags: Mapping[str, str]) -> str:
    """Write tags as header lines, each with its line end."""
    return "".join(f'[{name} "{_escape(value)}"]\n' for name, value in tags.items())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _tag(line: str, number: int, path: str) -> tuple[str, str]:
    found = _TAG.match(line)
    if found is None:
        raise DataError(
            f"{path}: line {number} is no header line of PGN, {line.strip()[:40]!r}; write it as "
            '[Name "value"]'
        )
    return found[1], re.sub(r"\\(.)", r"\1", found[2])


def _ends_in_result(line: str) -> bool:
    words = line.split()
    return bool(words) and words[-1] in (*RESULTS, "*")


def _comment_open(line: str, inside: bool) -> bool:
    """Say whether a brace comment is open at the end of a line."""
    at = 0
    while True:
        if inside:
            close = line.find("}", at)
            if close < 0:
                return True
            at, inside = close + 1, False
        else:
            opened, rest = line.find("{", at), line.find(";", at)
            if opened < 0 or 0 <= rest < opened:
                return False
            at, inside = opened + 1, True
