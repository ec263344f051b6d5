from __future__ import annotations

import random

import pytest

pytest.importorskip("chess")

import chess

from tunebook.data.chess.engine import Engine, find_engine
from tunebook.errors import UsageError
from tunebook.evaluate.chess.ladder import Rating, rate_ladder
from tunebook.evaluate.chess.players import (
    EngineMover,
    SometimesRandom,
    lowest_rating,
    read_spec,
    seat_opponents,
)
from tunebook.evaluate.chess.positions import read_openings

pytestmark = pytest.mark.stockfish

LEVELS = ("stockfish", "skill:3", "random:0", "random:0.15", "random:0.3")


@pytest.fixture(scope="module")
def stockfish() -> str:
    try:
        return find_engine(None)
    except UsageError:
        pytest.skip("Stockfish is not installed")


def rated(engine: str, names: tuple[str, ...], n_openings: int) -> dict[str, Rating]:
    specs = [read_spec(name) for name in names]
    with seat_opponents(specs, engine, nodes=400) as seats:
        return rate_ladder(seats, Rating(2000, "a test"), read_openings()[:n_openings], seed=0)


@pytest.mark.slow
def test_real_games_order_the_levels_of_stockfish(stockfish: str) -> None:
    ratings = rated(stockfish, LEVELS, 12)
    elos = [ratings[name].elo for name in LEVELS]
    assert elos == sorted(elos, reverse=True)
    errors = [ratings[name].error or 0.0 for name in LEVELS]
    assert errors == sorted(errors)
    assert ratings["stockfish"].interval is None
    low, high = ratings["random:0.3"].interval or (0, 0)
    assert low < elos[-1] < high < 2000


def test_two_levels_are_rated_by_the_games_that_a_seed_repeats(stockfish: str) -> None:
    # At full strength: a weaker Stockfish draws its mistakes by the clock, and twelve of its games
    # may end in a tie.
    with Engine(stockfish, {"Hash": 1}) as engine:
        thinker = EngineMover(engine, "depth 1")
        seats = {name: SometimesRandom(float(name), thinker) for name in ("0.3", "0.45")}
        ratings, again = (
            rate_ladder(seats, Rating(2000, "a test"), read_openings()[:6], seed=0)
            for _ in range(2)
        )
    assert ratings == again
    assert ratings["0.45"].elo < 2000
    assert "ladder of 12 games" in ratings["0.45"].source


def test_two_weak_levels_play_each_other(stockfish: str) -> None:
    with seat_opponents(
        [read_spec("random:0.3"), read_spec("random:0.45")], stockfish, nodes=400
    ) as seats:
        for name, opponent in seats.items():
            board = chess.Board()
            assert opponent.move(board, random.Random(name)) in board.legal_moves


def test_the_engine_says_how_weak_and_strong_it_can_be(stockfish: str) -> None:
    with Engine(stockfish) as engine:
        lowest, source = lowest_rating(engine)
        assert 1300 <= lowest <= 1400
        assert engine.name in source
    for name in ("elo:100", "elo:9000"):
        wanted = f"cannot play at {name}: its UCI_Elo has {lowest:.0f} to"
        with (
            pytest.raises(UsageError, match=wanted),
            seat_opponents([read_spec(name)], stockfish, nodes=1),
        ):
            raise AssertionError("it was seated")
