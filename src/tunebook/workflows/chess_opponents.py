"""Find the ratings of opponents: stated by the engine or the user, or by a ladder played here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson

from tunebook.book.atomic import storage_errors, write_atomically
from tunebook.book.codec import dump_json, to_record
from tunebook.book.writing import make_folder
from tunebook.data.chess.engine import Engine, find_engine, typed_engine
from tunebook.errors import UsageError
from tunebook.evaluate.chess.ladder import RUNGS, Rating, rate_ladder
from tunebook.evaluate.chess.players import (
    Spec,
    lowest_rating,
    read_spec,
    seat_opponents,
    stated_ratings,
)
from tunebook.evaluate.chess.positions import read_openings
from tunebook.regular import read_regular


def find_ratings(
    specs: Sequence[Spec],
    stated: Mapping[str, float],
    engine: str | None,
    book: Path,
    *,
    ladder_games: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Rating], str | None]:
    """Give the ratings that are known, and the engine's name; `engine` is its path.

    The ladder is played once per book and engine, and kept. With no game of it, or no engine, the
    random mover has no rating.
    """
    ratings = {name: Rating(elo, "stated by hand (--rating)") for name, elo in stated.items()}
    if engine is None:
        return ratings, None
    with Engine(engine) as running:
        own = {name: Rating(*found) for name, found in stated_ratings(specs, running).items()}
        by_ladder = [spec for spec in specs if spec.kind == "random" and spec.name not in ratings]
        if by_ladder and ladder_games:
            top = Rating(*lowest_rating(running))
            ladder = _ladder(running, top, by_ladder, book, ladder_games, say)
            own |= {spec.name: ladder[spec.name] for spec in by_ladder if spec.name in ladder}
        return own | ratings, running.name


def find_engine_for(specs: Sequence[Spec], stated: str | None) -> str | None:
    """Find Stockfish; None when there is none, it was not named, and no opponent needs it."""
    needing = [spec.name for spec in specs if spec.needs_engine]
    try:
        if stated is not None:
            return typed_engine(stated, "--set engine names it")
        return find_engine(
            None, f"opponent {needing[0] if needing else ''}", "play against `random` alone"
        )
    except UsageError:
        if needing or stated is not None:
            raise
        return None


def _ladder(
    engine: Engine,
    top: Rating,
    wanted: Sequence[Spec],
    book: Path,
    n_games: int,
    say: Callable[[str], None],
) -> dict[str, Rating]:
    rungs = {spec.name: spec for spec in (*map(read_spec, RUNGS), *wanted)}
    ordered = sorted(rungs.values(), key=lambda spec: spec.value or 0)
    said = [engine.name, top.elo, n_games, [spec.name for spec in ordered]]
    key = hashlib.sha256(orjson.dumps(said)).hexdigest()[:8]
    path = book / ".tunebook" / f"chess-ladder-{key}.json"
    try:
        found = orjson.loads(read_regular(path))
        return {name: to_record(Rating, rating) for name, rating in found.items()}
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        say(f"rating the opponents of this machine by {n_games} games a rung, once per book")
    openings = read_openings()[: max(n_games // 2, 1)]
    with seat_opponents(ordered, engine.path, nodes=1) as seats:
        ladder = rate_ladder(seats, top, openings, 0, say)
    with storage_errors(f"write {path}", path.parent):
        make_folder(book, path.parent)
        write_atomically(path, dump_json(ladder, indent=True))
    return ladder
