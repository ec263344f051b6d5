"""What positions, puzzles and games of a set of weights came to, each share with its interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from statistics import fmean
from typing import Any

from tunebook.evaluate.chess.games import PlayedGame
from tunebook.evaluate.chess.ladder import Rating
from tunebook.evaluate.chess.moves import FAILURES, WELL_FORMED
from tunebook.evaluate.chess.positions import PHASES, PLY_TAGS
from tunebook.records import Estimate, ItemScore
from tunebook.statistics.elo import Game, elo_estimate
from tunebook.statistics.estimate import mean_estimate, proportion_estimate
from tunebook.statistics.survival import survival

Row = Mapping[str, Any]


def share(
    values: Iterable[tuple[str, bool | None]], clusters: Sequence[str] = ()
) -> dict[str, Any]:
    """Estimate a share of named items, each alone or in the cluster of the same place."""
    rows = [
        ItemScore(f"{name}#{number}", "", "", None if held is None else float(held),
                  cluster=clusters[number] if clusters else "")
        for number, (name, held) in enumerate(values)
    ]  # fmt: skip
    if all(row.value is None for row in rows):
        return {"score": None, "interval": None, "n": 0, "missing": len(rows)}
    found = proportion_estimate(rows)
    return {
        "score": found.score,
        "interval": found.interval,
        "n": found.n,
        "missing": found.missing,
    }


def points_estimate(rows: Sequence[ItemScore]) -> Estimate:
    """Estimate points a game, from 0 to 1; a handful of games may leave all of it possible."""
    return mean_estimate(rows, "bca", (0.0, 1.0))


def position_details(rows: Sequence[Row]) -> dict[str, Any]:
    """Give legal moves by phase and ply, the kinds of failure, and how much is a move at all."""
    asked = [row for row in rows if row["value"] is not None]
    moves = [row for row in asked if row["failure"] != "premature_result"]

    def legal(chosen: Iterable[Row]) -> dict[str, Any]:
        return share((row["item_id"], bool(row["value"])) for row in chosen)

    return {
        "format_valid": share((r["item_id"], r["failure"] in WELL_FORMED) for r in asked),
        "without_premature_results": legal(moves),
        "by_phase": {tag: legal(r for r in asked if tag in r["tags"]) for tag in PHASES},
        "by_ply": {tag: legal(r for r in asked if tag in r["tags"]) for tag in PLY_TAGS},
        "failures": _kinds(row["failure"] for row in asked),
        "wrong_check_marks": sum(row["wrong_mark"] for row in asked),
    }


def puzzle_details(rows: Sequence[Row]) -> dict[str, Any]:
    """Give puzzles solved by band of rating, beside what random legal moves solve."""
    bands = sorted({row["tags"][0] for row in rows}, key=lambda band: int(band.partition("-")[0]))

    def solved(chosen: Sequence[Row]) -> dict[str, Any]:
        right = share(
            (r["item_id"], None if r["value"] is None else bool(r["value"])) for r in chosen
        )
        first = share(
            (r["item_id"], None if r["value"] is None else r["found"] > 0) for r in chosen
        )
        chances = {
            "random_legal": fmean(row["chance"] for row in chosen),
            "random_first_move": fmean(row["first_chance"] for row in chosen),
        }
        return right | {"first_move": first} | chances

    return {
        "random_legal": fmean(row["chance"] for row in rows),
        "by_rating": {band: solved([r for r in rows if band in r["tags"]]) for band in bands},
        "failures": _kinds(row["failure"] for row in rows if row["value"] is not None),
    }


def game_details(games: Sequence[PlayedGame], ratings: Mapping[str, Rating]) -> dict[str, Any]:
    """Give results by opponent, legality, moves until the first failure, and Elo.

    Shares of legal moves resample whole games; a resignation counts neither way.
    """
    names = list(dict.fromkeys(game.opponent for game in games))
    asks = [
        (game.id, number < game.legal) for game in games for number in range(game.asked)
    ]  # only how many of a game's are legal matters, not which
    played = [game for game in games if game.asked]
    lasted = (
        survival(
            [game.failed_at or game.asked for game in played],
            [game.failed_at is not None for game in played],
        )
        if played
        else None
    )
    return {
        "opponents": {name: _against([g for g in games if g.opponent == name]) for name in names},
        "ends": dict(Counter(game.end for game in games)),
        "failures": _kinds(kind for game in games for _, kind, _ in game.failures),
        "legal": share(asks, [name for name, _ in asks]),
        "own_moves_to_first_failure": None if lasted is None else asdict(lasted),
        "elo": elo_details(
            [
                Game(
                    game.id,
                    game.opponent,
                    ratings[game.opponent].elo if game.opponent in ratings else math.nan,
                    game.score,
                    f"{game.opponent}/{game.opening}",
                )
                for game in games
            ],
            {name: rating.source for name, rating in ratings.items()},
        ),
        "ratings": {name: asdict(ratings[name]) for name in names if name in ratings},
    }


def elo_details(games: Sequence[Game], sources: Mapping[str, str]) -> dict[str, Any]:
    """Estimate Elo from games, NaN the rating of an opponent of whom none is known.

    `sources` says where an opponent's rating is from. Against a single unrated opponent the result
    is the difference to that one; against several there is nothing to say but the results.
    """
    names = {game.opponent for game in games}
    unrated = sorted({game.opponent for game in games if math.isnan(game.opponent_elo)})
    if unrated and len(names) > 1:
        why = f"no rating of {', '.join(unrated)} is known; state it with --rating NAME=ELO"
        return {"elo": None, "interval": None, "reason": why}
    if unrated:
        games = [replace(game, opponent_elo=0.0) for game in games]
        sources = {unrated[0]: "put at 0, for no rating of it is known"}
    found = asdict(elo_estimate(games))
    return found | {
        "scale": f"Elo above {unrated[0]}" if unrated else "Elo",
        "sources": {name: sources[name] for name in sources if name in names},
    }


def _against(games: Sequence[PlayedGame]) -> dict[str, Any]:
    points = Counter(game.score for game in games)
    return {
        "n": len(games),
        "won": points[1.0],
        "drawn": points[0.5],
        "lost": points[0.0],
        "points": sum(game.score for game in games),
        "ends": dict(Counter(game.end for game in games)),
    }


def _kinds(failures: Iterable[str | None]) -> dict[str, int]:
    counts = Counter(failures)
    return {kind: counts[kind] for kind in FAILURES if counts[kind]}
