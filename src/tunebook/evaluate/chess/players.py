"""The opponents of a model, weak to strong, and what is known of their strength.

| name | who it is |
|---|---|
| `random` | any legal move, all alike |
| `random:0.6` | a random move with probability 0.6, else one of Stockfish, skill 0 at depth 1 |
| `skill:5` | Stockfish with `Skill Level` 5 at a fixed number of nodes |
| `elo:1500` | Stockfish held to `UCI_Elo` 1500 at a fixed number of nodes |
| `stockfish` | Stockfish at full strength at a fixed number of nodes |
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import chess

from tunebook.data.chess.engine import Engine
from tunebook.data.chess.games import RESULTS
from tunebook.errors import UsageError

_SPEC = re.compile(r"(random|skill|elo|stockfish)(?::(\d+(?:\.\d+)?))?")
_SMALL_HASH_MIB = 1  # emptied before every move, which takes time by its size
WEAKEST = "random:0"
"""The upper end of the ladder: Stockfish, skill 0 at depth 1."""


class Opponent(Protocol):
    """Anything that plays legal moves; `draw` is the game's own, so that games can be repeated."""

    def move(self, board: chess.Board, draw: random.Random) -> chess.Move:
        """Choose a legal move."""
        ...


@dataclass(frozen=True, slots=True)
class Spec:
    """An opponent as it was named; `value` is None where the name has no number."""

    name: str
    kind: str
    value: float | None

    @property
    def needs_engine(self) -> bool:
        """Say whether Stockfish plays some of its moves."""
        return self.name != "random"


def read_spec(name: str) -> Spec:
    """Read the name of an opponent; UsageError when there is none like it."""
    found = _SPEC.fullmatch(name)
    kind, value = (found[1], found[2]) if found else ("", None)
    number = None if value is None else float(value)
    right = {
        "random": number is None or 0 <= number <= 1,
        "skill": number is not None and number <= 20 and number == int(number),
        "elo": number is not None and number == int(number),
        "stockfish": number is None,
    }
    if not right.get(kind, False):
        raise UsageError(
            f"there is no chess opponent {name!r}; name random, random:0.6 (the share of its moves "
            "that are random), skill:0 to skill:20, elo:1500 or stockfish"
        )
    if kind == "random":
        share = 1.0 if number is None else number
        return Spec("random" if share == 1 else f"random:{share:g}", kind, share)
    return Spec(name, kind, number)


def points(result: str, white: bool) -> float:
    """Give the points of a side for a result: 1, 0.5 or 0."""
    of_white = (1.0, 0.0, 0.5)[RESULTS.index(result)]
    return of_white if white else 1 - of_white


class RandomMover:
    """Plays every legal move with the same probability."""

    def move(self, board: chess.Board, draw: random.Random) -> chess.Move:
        """Choose a legal move, the same one for the same draw whatever order they come in."""
        moves = sorted(board.legal_moves, key=chess.Move.uci)
        return moves[int(draw.random() * len(moves))]


@dataclass(frozen=True, slots=True)
class EngineMover:
    """An engine that thinks up to a limit, as UCI's `go` takes it."""

    engine: Engine
    limit: str

    def move(self, board: chess.Board, draw: random.Random) -> chess.Move:
        """Ask the engine, which sees the whole game and so knows of repetitions."""
        played = [move.uci() for move in board.move_stack]
        return chess.Move.from_uci(self.engine.play(board.root().fen(), played, self.limit))


@dataclass(frozen=True, slots=True)
class SometimesRandom:
    """Plays a random move with a probability, else another player's."""

    share: float
    other: Opponent

    def move(self, board: chess.Board, draw: random.Random) -> chess.Move:
        """Throw the die, then move."""
        player = RandomMover() if draw.random() < self.share else self.other
        return player.move(board, draw)


@contextmanager
def seat_opponents(
    specs: Iterable[Spec], engine: str | None, nodes: int
) -> Iterator[dict[str, Opponent]]:
    """Start the opponents, each with an engine of its own, and end the engines afterwards.

    UsageError for a strength that this engine does not have.
    """
    with ExitStack() as running:
        seats: dict[str, Opponent] = {}
        for spec in specs:
            if not spec.needs_engine:
                seats[spec.name] = RandomMover()
                continue
            assert engine is not None
            started = running.enter_context(Engine(engine, _options(spec)))
            _check_range(spec, started)
            mover = EngineMover(started, "depth 1" if spec.kind == "random" else f"nodes {nodes}")
            seats[spec.name] = (
                SometimesRandom(spec.value, mover)
                if spec.value and (spec.kind == "random")
                else mover
            )
        yield seats


def stated_ratings(specs: Iterable[Spec], engine: Engine) -> dict[str, tuple[float, str]]:
    """Give the ratings that the engine states of itself, each with where it is from."""
    return {
        spec.name: (spec.value, f"UCI_Elo of {engine.name}, which states it for its own pace")
        for spec in specs
        if spec.kind == "elo" and spec.value is not None
    }


def lowest_rating(engine: Engine) -> tuple[float, str]:
    """Give the rating of `random:0`: skill 0 is what the engine plays at its lowest UCI_Elo."""
    if "UCI_Elo" not in engine.ranges:
        raise UsageError(
            f"{engine.name} states no range of UCI_Elo, so nothing is known of its strength; name "
            "Stockfish 11 or newer, or give ratings by hand (--rating)"
        )
    return float(engine.ranges["UCI_Elo"][0]), f"lowest UCI_Elo of {engine.name} (skill 0)"


def _options(spec: Spec) -> Mapping[str, int | str]:
    options: dict[str, int | str] = {"Hash": _SMALL_HASH_MIB}
    if spec.kind == "random":
        options["Skill Level"] = 0
    elif spec.kind == "skill":
        options["Skill Level"] = int(spec.value or 0)
    elif spec.kind == "elo":
        options |= {"UCI_LimitStrength": "true", "UCI_Elo": int(spec.value or 0)}
    return options


def _check_range(spec: Spec, engine: Engine) -> None:
    low, high = engine.ranges.get("UCI_Elo", (0, -1))
    if spec.kind == "elo" and not low <= (spec.value or 0) <= high:
        has = f"{low} to {high}" if low <= high else "no such setting"
        raise UsageError(
            f"{engine.name} cannot play at {spec.name}: its UCI_Elo has {has}; below it name "
            "random:0.2 to random:0.8"
        )
