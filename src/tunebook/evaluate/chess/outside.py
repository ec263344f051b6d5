"""Games that were played elsewhere, as PGN: results, Elo and illegal moves of one player."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import chess

from tunebook.data.chess.games import RESULTS
from tunebook.data.chess.pgn import MOVETEXT, read_moves
from tunebook.data.rows import read_rows
from tunebook.data.sources import locate
from tunebook.errors import DataError, UsageError
from tunebook.evaluate.chess.moves import Failure, read_move

_UNKNOWN_SIDE = ("", "?")


@dataclass(frozen=True, slots=True)
class OutsideGame:
    """A game as its file has it; `result` is `*` where nothing says how it ended.

    `plies` is how many legal moves there are. `illegal` is what follows them, if it is no legal
    move: its kind and text; nothing after it is read.
    """

    place: str
    white: str
    black: str
    elos: tuple[float | None, float | None]
    result: str
    plies: int
    white_begins: bool
    illegal: tuple[Failure, str] | None

    def colour_of(self, player: str) -> bool | None:
        """Say which side a player has; None when it is not in this game."""
        return True if self.white == player else False if self.black == player else None


def read_games(path: str) -> list[OutsideGame]:
    """Read the games of PGN files; DataError where there are none."""
    games = list(_games(path))
    if not games:
        raise DataError(f"{path} has no games; give a file of PGN")
    return games


def choose_player(games: Sequence[OutsideGame], stated: str | None) -> str:
    """Find who is judged: the one who was named, else who played most (White, where two did)."""
    times: Counter[str] = Counter()
    for game in games:
        times.update(name for name in (game.white, game.black) if name not in _UNKNOWN_SIDE)
    if stated is not None:
        if stated not in times:
            others = ", ".join(name for name, _ in times.most_common(4))
            raise UsageError(f"no game is of {stated!r}; the players are {others} (--player)")
        return stated
    if not times:
        raise UsageError("the games name no players; write [White ...] and [Black ...] into them")
    return times.most_common(1)[0][0]


def _games(path: str) -> Iterator[OutsideGame]:
    for file in locate(path).files:
        if file.kind != "pgn":
            raise DataError(f"{file.path} is no PGN file; give games as .pgn or .pgn.gz")
        for row in read_rows(file):
            tags = {key: str(value) for key, value in row.values.items() if key != MOVETEXT}
            moves, end = read_moves(str(row.values.get(MOVETEXT) or ""))
            try:
                board = chess.Board(tags.get("FEN", chess.STARTING_FEN))
            except ValueError as error:
                raise DataError(f"{row.place}: the FEN is no position ({error})") from None
            begins, illegal, plies = board.turn, None, 0
            for word in moves:
                said = read_move(board, word)
                if said.move is None:
                    illegal = (said.failure or "unparsable", word)
                    break
                board.push(said.move)
                plies += 1
            result = tags.get("Result", "*")
            shown = board.result() if illegal is None else "*"
            result = next((r for r in (result, end, shown) if r in RESULTS), "*")
            sides = tags.get("White", "?"), tags.get("Black", "?")
            elos = _elo(tags.get("WhiteElo")), _elo(tags.get("BlackElo"))
            yield OutsideGame(row.place, *sides, elos, result, plies, begins, illegal)


def _elo(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:  # `?` and `-` are common
        return None
