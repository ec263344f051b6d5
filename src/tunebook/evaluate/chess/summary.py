"""What positions, puzzles and games of a set of weights came to, each share with its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tunebook.evaluate.chess.games import PlayedGame
from tunebook.evaluate.chess.ladder import Rating
from tunebook.evaluate.chess.moves import FAILURES, WELL_FORMED
from tunebook.evaluate.chess.positions import PHASES, PLY_TAGS
from tunebook.records import ItemScore
from tunebook.statistics.elo import Game, elo_estimate
from tunebook.statistics.estimate import proportion_estimate
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
        chance = sum(row["chance"] for row in chosen) / len(chosen)
        return right | {"first_move": first, "random_legal": chance}

    return {
        "random_legal": sum(row["chance"] for row in rows) / len(rows),
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
            [Game(g.id, g.opponent, 0.0, g.score, f"{g.opponent}/{g.opening}") for g in games],
            ratings,
        ),
    }


def elo_details(games: Sequence[Game], ratings: Mapping[str, Rating]) -> dict[str, Any]:
    """Estimate Elo where the opponents' ratings are known, with where they are from.

    Against a single unrated opponent it is the difference to that one; against several there is
    nothing to say but the results.
    """
    names = list(dict.fromkeys(game.opponent for game in games))
    unrated = [name for name in names if name not in ratings]
    if unrated and len(names) > 1:
        why = f"no rating of {', '.join(unrated)} is known"
        return {"elo": None, "interval": None, "reason": why, "ratings": {}}
    known = ratings if not unrated else {unrated[0]: Rating(0.0, "itself, put at 0")}
    rated = [
        Game(game.game_id, game.opponent, known[game.opponent].elo, game.score, game.cluster)
        for game in games
    ]
    return asdict(elo_estimate(rated)) | {
        "scale": f"above {names[0]}" if unrated else "Elo",
        "ratings": {
            name: {"elo": known[name].elo, "interval": known[name].interval,
                   "source": known[name].source}
            for name in names
        },
    }  # fmt: skip


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
