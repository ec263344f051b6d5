"""Play a model's games, many at once: all that wait for its move are asked in one batch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import chess

from tunebook.data.chess.pgn import write_header
from tunebook.evaluate.chess.asking import Answerer, Ask, legal_san, seed_of
from tunebook.evaluate.chess.moves import Failure, Said, read_move
from tunebook.evaluate.chess.players import Opponent, points
from tunebook.evaluate.chess.positions import Line
from tunebook.evaluate.chess.prompts import Wording

Policy = Literal["strict", "resign", "retry", "constrained"]
"""What follows when the model writes no legal move: the game is lost (`strict`); so it is, but a
result in the opponent's favour is a resignation and no failure (`resign`); it is asked again, some
times (`retry`); it can write nothing else (`constrained`)."""
POLICIES: tuple[Policy, ...] = get_args(Policy)

_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every game: attempts of `retry`, and the ply at which a game is called off."""

    retries: int = 3
    max_plies: int = 240
    at_once: int = 64


@dataclass(frozen=True, slots=True)
class Fixture:
    """A game to be played: against whom, from which line, with which pieces."""

    opponent: str
    policy: Policy
    opening: Line
    white: bool

    @property
    def id(self) -> str:
        """Name the game; another seed plays another one of this name."""
        colour = "white" if self.white else "black"
        return f"{self.opponent}/{self.policy}/{self.opening.id}/{colour}"

    @property
    def key(self) -> tuple[str, str, int]:
        """What its row is known by: id, hash of the opening, repeat."""
        return self.id, hashlib.sha256(" ".join(self.opening.uci).encode()).hexdigest()[:16], 0


@dataclass(frozen=True, slots=True)
class PlayedGame:
    """A game that was played, as far as it went.

    `score` is the model's. `end` is how it ended: checkmate, stalemate and other draws by rule,
    `too_long` and `no_room` (called off as draws), `failure` or `resigned`. `asked` counts the
    positions the model was asked in, `legal` those where its first text was a legal move, and
    `failed_at` is the number of the first where it was not (None: never). `failures` has the ply,
    kind and text of every text that was no legal move.
    """

    id: str
    opponent: str
    policy: Policy
    opening: str
    white: bool
    uci: tuple[str, ...]
    result: str
    score: float
    end: str
    asked: int
    legal: int
    failed_at: int | None
    failures: tuple[tuple[int, Failure, str], ...]


def fixtures(
    opponents: Sequence[str], policies: Sequence[Policy], openings: Sequence[Line], n: int
) -> list[Fixture]:
    """List n games against each opponent under each policy, each opening with both colours."""
    seats = [(line, white) for line in openings for white in (True, False)]
    return [
        Fixture(opponent, policy, *seats[number % len(seats)])
        for opponent in opponents
        for policy in policies
        for number in range(min(n, len(seats)))
    ]


def play(
    games: Sequence[Fixture],
    answer: Answerer,
    opponents: Mapping[str, Opponent],
    wording: Wording,
    rules: Rules,
    seed: int,
) -> Iterator[PlayedGame]:
    """Play games and yield each when it is over."""
    left = [_Table(fixture, fixture.opening.board(), seed) for fixture in reversed(games)]
    tables: list[_Table] = []
    while left or tables:
        while left and len(tables) < rules.at_once:
            tables.append(left.pop())
        for table in tables:
            table.let_opponent_move(opponents[table.fixture.opponent], rules)
        waiting = [table for table in tables if not table.end]
        asks = [table.ask(wording) for table in waiting]
        for table, raw in zip(waiting, answer(asks) if asks else (), strict=True):
            table.take(raw, rules)
        yield from (table.record() for table in tables if table.end)
        tables = [table for table in tables if not table.end]


@dataclass(slots=True)
class _Table:
    """A game under way; `end` is empty until it is over."""

    fixture: Fixture
    board: chess.Board
    seed: int
    end: str = ""
    result: str = "*"
    attempt: int = 0
    asked: int = 0
    legal: int = 0
    failed_at: int | None = None
    failures: list[tuple[int, Failure, str]] = field(default_factory=list)
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(seed_of(self.seed, self.fixture.id, "opponent"))

    def let_opponent_move(self, opponent: Opponent, rules: Rules) -> None:
        """Find whether the game is over; if not, and it is the opponent's turn, let it move."""
        self._look(rules)
        if not self.end and self.board.turn != self.fixture.white:
            self.board.push(opponent.move(self.board, self.draw))
            self._look(rules)

    def ask(self, wording: Wording) -> Ask:
        """Word the question for the model's move."""
        held = self.fixture.policy == "constrained"
        return Ask(
            wording.prompt(self.board),
            seed_of(self.seed, self.fixture.id, self.board.ply(), self.attempt),
            self.attempt,
            legal_san(self.board) if held else (),
        )

    def take(self, raw: str | None, rules: Rules) -> None:
        """Make the move that the model wrote, or deal with there being none."""
        if raw is None:
            self._finish("no_room", "1/2-1/2")
            return
        said = read_move(self.board, raw)
        lost = "0-1" if self.fixture.white else "1-0"
        if self.fixture.policy == "resign" and said.word == lost:
            self._finish("resigned", lost)
            return
        self.asked += self.attempt == 0
        if said.move is not None:
            self.legal += self.attempt == 0
            self.attempt = 0
            self.board.push(said.move)
            return
        self._fail(said, lost, rules)

    def _fail(self, said: Said, lost: str, rules: Rules) -> None:
        assert said.failure is not None
        self.failures.append((self.board.ply(), said.failure, said.raw))
        self.failed_at = self.failed_at or self.asked
        self.attempt += 1
        if self.fixture.policy != "retry" or self.attempt > rules.retries:
            self._finish("failure", lost)

    def _look(self, rules: Rules) -> None:
        outcome = self.board.outcome(claim_draw=True)
        if outcome is not None:
            self._finish(outcome.termination.name.lower(), outcome.result())
        elif self.board.ply() >= rules.max_plies:
            self._finish("too_long", "1/2-1/2")

    def _finish(self, end: str, result: str) -> None:
        self.end, self.result = end, result

    def record(self) -> PlayedGame:
        """Write the game down."""
        fixture = self.fixture
        return PlayedGame(
            id=fixture.id,
            opponent=fixture.opponent,
            policy=fixture.policy,
            opening=fixture.opening.id,
            white=fixture.white,
            uci=tuple(move.uci() for move in self.board.move_stack),
            result=self.result,
            score=points(self.result, fixture.white),
            end=self.end,
            asked=self.asked,
            legal=self.legal,
            failed_at=self.failed_at,
            failures=tuple(self.failures),
        )


def write_pgn(game: PlayedGame, model: str, more: Mapping[str, Any]) -> str:
    """Write a game as PGN, with every text that was no legal move as a comment where it was said.

    `more` are further header tags.
    """
    sides = (model, game.opponent) if game.white else (game.opponent, model)
    tags = {"Event": f"tunebook chess, {game.policy}", "Site": "?", "Date": "????.??.??"}
    tags |= {"Round": game.id, "White": sides[0], "Black": sides[1], "Result": game.result}
    tags |= {"Opening": game.opening, "Termination": game.end.replace("_", " ")}
    tags |= {name: str(value) for name, value in more.items()}
    board, words = chess.Board(), []
    for ply in range(len(game.uci) + 1):
        # A brace cannot stand in a comment of PGN, nor can a line break be told from a space.
        said = (f"{kind}: {raw!r}" for at, kind, raw in game.failures if at == ply)
        words += ["{" + text.replace("{", "(").replace("}", ")") + "}" for text in said]
        if ply < len(game.uci):
            if board.turn or not words or words[-1].endswith("}"):
                words.append(f"{board.fullmove_number}.{'' if board.turn else '..'}")
            words.append(board.san_and_push(chess.Move.from_uci(game.uci[ply])))
    return f"{write_header(tags)}\n{_wrapped([*words, game.result])}\n"


def _wrapped(words: Sequence[str]) -> str:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
