"""Rate opponents too weak for an engine's own scale, by games that they play here.

Every rung plays the next one, and its rating follows from that of the rung above: the uppermost is
`random:0`, Stockfish at skill 0 and depth 1, whose rating the engine states.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunebook.evaluate.chess.asking import seed_of
from tunebook.evaluate.chess.players import WEAKEST, Opponent, points
from tunebook.evaluate.chess.positions import Line
from tunebook.statistics.elo import Game, elo_estimate

RUNGS = (WEAKEST, "random:0.1", "random:0.2", "random:0.35", "random:0.5", "random:0.7", "random")
_MAX_PLIES = 240
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Rating:
    """What is known of an opponent's strength, and from where.

    `error` is the standard error, None for a rating that was stated and not measured here.
    """

    elo: float
    source: str
    error: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of a measured rating."""
        if self.error is None:
            return None
        return self.elo - _Z * self.error, self.elo + _Z * self.error


def rate_ladder(
    seats: Mapping[str, Opponent],
    top: Rating,
    openings: Sequence[Line],
    seed: int,
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, Rating]:
    """Let each rung of `seats`, strongest first, play the next from every opening, both colours.

    Errors add up from rung to rung. The ladder ends above a rung that lost or won every game.
    """
    names = list(seats)
    ratings = {names[0]: top}
    for stronger, weaker in zip(names, names[1:], strict=False):
        known = ratings[stronger]
        say(f"rating {weaker}: {2 * len(openings)} games against {stronger}")
        games = [
            Game(
                f"{weaker}/{line.id}/{white}",
                stronger,
                known.elo,
                _play(seats[weaker], seats[stronger], line, white, seed_of(seed, weaker, line.id)),
                line.id,
            )
            for line in openings
            for white in (True, False)
        ]
        found = elo_estimate(games)
        if found.elo is None or found.error is None:
            break
        error = math.hypot(known.error or 0, found.error)
        ratings[weaker] = Rating(
            found.elo, f"ladder of {found.n} games a rung below {top.source}", error
        )
    return ratings


def _play(weaker: Opponent, stronger: Opponent, line: Line, white: bool, seed: int) -> float:
    """Play one game and give the weaker one's points; `white` is its colour."""
    board, draw = line.board(), random.Random(seed * 2 + white)
    while board.ply() < _MAX_PLIES and (ended := board.outcome(claim_draw=True)) is None:
        player = weaker if board.turn == white else stronger
        board.push(player.move(board, draw))
    ended = board.outcome(claim_draw=True)
    return points(ended.result() if ended else "1/2-1/2", white)
