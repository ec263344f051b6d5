"""What `tunebook chess --games` does: judge games that were played elsewhere; needs no book."""

from __future__ import annotations

from collections.abc import Mapping

from tunebook.data.chess.library import require_chess
from tunebook.records import Evaluation


def judge_games(path: str, player: str | None, ratings: Mapping[str, float]) -> Evaluation:
    """Give a player's points a game, and its Elo where its opponents' ratings are known.

    Raises DataError for a file that is no PGN, UsageError for a player who is not in it.
    """
    require_chess()
    from tunebook.evaluate.chess.outside import (
        choose_player,
        outside_details,
        read_games,
        result_rows,
    )
    from tunebook.evaluate.chess.summary import points_estimate

    games = read_games(path)
    chosen = choose_player(games, player)
    found = points_estimate(result_rows(games, chosen))
    return Evaluation(
        kind="chess-games",
        subject=chosen,
        unit="points a game",
        score=found.score,
        interval=found.interval,
        n=found.n,
        missing=found.missing,
        examples_hash=found.examples_hash,
        settings={"file": path, "ratings": dict(ratings)},
        details=outside_details(games, chosen, ratings, "WhiteElo and BlackElo of the games"),
    )
