"""Games that were played elsewhere, as PGN: results, Elo and illegal moves of one player."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import chess

from tunebook.data.chess.games import RESULTS
from tunebook.data.chess.pgn import MOVETEXT, read_moves
from tunebook.data.rows import read_rows
from tunebook.data.sources import locate
from tunebook.errors import DataError, UsageError
from tunebook.evaluate.chess.moves import Failure, read_move
from tunebook.evaluate.chess.players import points
from tunebook.evaluate.chess.summary import elo_details
from tunebook.records import ItemScore
from tunebook.statistics.elo import Game, elo_estimate

_UNKNOWN_SIDE = ("", "?")
_FEW = 20
_BAND = 100


@dataclass(frozen=True, slots=True)
class OutsideGame:
    """A game as its file has it; `result` is `*` where nothing says how it ended.

    `plies` is how many legal moves there are. `illegal` is what follows them, if it is no legal
    move: its kind and text, and whether White said it; nothing after it is read.
    """

    place: str
    white: str
    black: str
    elos: tuple[float | None, float | None]
    result: str
    plies: int
    illegal: tuple[Failure, str] | None
    illegal_is_white: bool
    hash: str


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


def result_rows(games: Sequence[OutsideGame], player: str) -> list[ItemScore]:
    """Give the player's points in each of its games; None where the result is unknown."""
    return [
        ItemScore(
            f"{game.place}#{number}",
            game.hash,
            player,
            None if game.result not in RESULTS else points(game.result, game.white == player),
        )
        for number, game in enumerate(games, start=1)
        if player in (game.white, game.black)
    ]


def outside_details(
    games: Sequence[OutsideGame], player: str, stated: Mapping[str, float], source: str
) -> dict[str, Any]:
    """Give the player's results by opponent, illegal moves, and Elo where ratings are known.

    `stated` ratings go before those that the games have in their headers, which are of `source`.
    """
    own = [game for game in games if player in (game.white, game.black)]
    ended = [game for game in own if game.result in RESULTS]
    illegal = [g for g in own if g.illegal and g.illegal_is_white == (g.white == player)]
    results: dict[str, Counter[float]] = {}
    for game in ended:
        score = points(game.result, game.white == player)
        results.setdefault(_opponent(game, player), Counter())[score] += 1
    return {
        "opponents": {
            name: {
                "n": each.total(),
                "won": each[1.0],
                "drawn": each[0.5],
                "lost": each[0.0],
            }
            for name, each in results.items()
        },
        "illegal": {
            "games": len(illegal),
            "failures": dict(Counter(g.illegal[0] for g in illegal if g.illegal)),
            "plies": [g.plies for g in illegal],
        },
        "elo": _elo_of(ended, player, stated, source),
    }


def _elo_of(
    games: Sequence[OutsideGame], player: str, stated: Mapping[str, float], source: str
) -> dict[str, Any]:
    rated, sources = [], dict[str, str]()
    for number, game in enumerate(games):
        name = _opponent(game, player)
        elo = stated.get(name, game.elos[1 if game.white == player else 0])
        sources[name] = "stated by hand (--rating)" if name in stated else source
        score = points(game.result, game.white == player)
        rated.append(Game(str(number), name, math.nan if elo is None else elo, score))
    if not rated:
        return {"elo": None, "interval": None, "reason": "no game has a result"}
    opponents = {(game.opponent, game.opponent_elo) for game in rated}
    if len(opponents) <= _FEW or any(math.isnan(elo) for _, elo in opponents):
        return elo_details(rated, sources)
    # Of hundreds of opponents each has a game or two; what fits is held against stretches of them.
    banded = [replace(g, opponent=f"rated {g.opponent_elo // _BAND * _BAND:.0f}+") for g in rated]
    means: dict[str, list[float]] = {}
    for one in banded:
        means.setdefault(one.opponent, []).append(one.opponent_elo)
    by_band = [replace(g, opponent_elo=fmean(means[g.opponent])) for g in banded]
    fit = elo_estimate(by_band)
    found = replace(elo_estimate(rated), fits=fit.fits, fit_p=fit.fit_p)
    return asdict(found) | {"scale": "Elo", "sources": {"all opponents": source}}


def _opponent(game: OutsideGame, player: str) -> str:
    return game.black if game.white == player else game.white


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
            illegal: tuple[Failure, str] | None = None
            for word in moves:
                said = read_move(board, word)
                if said.move is None:
                    illegal = (said.failure or "unparsable", word)
                    break
                board.push(said.move)
            result = tags.get("Result", "*")
            shown = board.result() if illegal is None else "*"
            result = next((r for r in (result, end, shown) if r in RESULTS), "*")
            sides = tags.get("White", "?"), tags.get("Black", "?")
            elos = _elo(tags.get("WhiteElo")), _elo(tags.get("BlackElo"))
            plies, white = len(board.move_stack), board.turn
            said_all = " ".join([*sides, board.root().fen(), *moves, result])
            digest = hashlib.sha256(said_all.encode()).hexdigest()[:16]
            yield OutsideGame(row.place, *sides, elos, result, plies, illegal, white, digest)


def _elo(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:  # `?` and `-` are common
        return None
