"""Puzzles as Lichess publishes them: a position, the opponent's move, and the line to be found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import chess

from tunebook.data.rows import read_rows
from tunebook.data.sources import locate
from tunebook.errors import DataError
from tunebook.evaluate.chess.asking import Answerer, Ask, seed_of
from tunebook.evaluate.chess.moves import read_move
from tunebook.evaluate.chess.prompts import Wording

_COLUMNS = ("PuzzleId", "FEN", "Moves", "Rating")
_BAND = 200


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A position by its FEN, and the moves in UCI: the opponent's and the solver's in turn."""

    id: str
    fen: str
    uci: tuple[str, ...]
    rating: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What its row is known by: id, hash of what is asked, repeat."""
        asked = f"{self.fen} {' '.join(self.uci)}"
        return self.id, hashlib.sha256(asked.encode()).hexdigest()[:16], 0

    @property
    def band(self) -> str:
        """Name the stretch of ratings it is in."""
        low = self.rating // _BAND * _BAND
        return f"{low}-{low + _BAND - 1}"


def read_puzzles(path: Path, limit: int | None = None) -> list[Puzzle]:
    """Read a table of puzzles; DataError for a row that is none or has an illegal move."""
    found = []
    for row in islice(read_rows(locate(str(path)).files[0]), limit):
        if missing := [name for name in _COLUMNS if not row.values.get(name)]:
            raise DataError(
                f"{row.place}: this is no chess puzzle, it has no {missing[0]}; give a table with "
                f"{', '.join(_COLUMNS)}, as Lichess publishes them"
            )
        id_, fen, moves, rating = (str(row.values[name]) for name in _COLUMNS)
        try:
            puzzle = Puzzle(id_, fen, tuple(moves.split()), int(float(rating)))
            _play_through(puzzle)
        except ValueError as error:
            raise DataError(f"{row.place}: puzzle {id_}: {error}; correct or delete it") from None
        found.append(puzzle)
    return found


def ask_puzzles(
    puzzles: Sequence[Puzzle], wording: Wording, answer: Answerer, seed: int, at_once: int = 64
) -> Iterator[list[dict[str, Any]]]:
    """Ask for the solver's moves in turn; yield rows by the batch, value 1 when all were found.

    Another move that gives mate counts as found, as Lichess has it. `chance` is the probability
    that random legal moves find the line, `first_chance` that of its first move, and `n_moves` how
    many moves the line has.
    """
    for first in range(0, len(puzzles), at_once):
        tries = [_Try(puzzle) for puzzle in puzzles[first : first + at_once]]
        while waiting := [one for one in tries if one.value is None and not one.no_room]:
            asks = [
                Ask(wording.prompt(one.board), seed_of(seed, one.puzzle.id, one.found))
                for one in waiting
            ]
            for one, raw in zip(waiting, answer(asks), strict=True):
                one.take(raw)
        yield [one.row() for one in tries]


def chance_of(puzzle: Puzzle, n_moves: int | None = None) -> float:
    """Give the probability that uniformly random legal moves find its first moves (None: all)."""
    board = chess.Board(puzzle.fen)
    chance = 1.0
    for number, uci in enumerate(puzzle.uci if n_moves is None else puzzle.uci[: 2 * n_moves]):
        if number % 2:
            right = [m for m in board.legal_moves if m.uci() == uci or _mates(board, m)]
            chance *= len(right) / board.legal_moves.count()
        board.push_uci(uci)
    return chance


class _Try:
    """A puzzle being solved; `value` is None until it is decided, and stays so without room."""

    def __init__(self, puzzle: Puzzle) -> None:
        self.puzzle = puzzle
        self.board = chess.Board(puzzle.fen)
        self.board.push_uci(puzzle.uci[0])
        self.found = 0
        self.value: float | None = None
        self.no_room = False
        self.answers: list[str] = []
        self.failure: str | None = None

    def take(self, raw: str | None) -> None:
        """Compare a move with the one to be found, and let the opponent answer."""
        if raw is None:
            self.no_room = True
            return
        self.answers.append(raw)
        said = read_move(self.board, raw)
        self.failure = said.failure
        wanted = self.puzzle.uci[2 * self.found + 1]
        if said.move is None or not (said.move.uci() == wanted or _mates(self.board, said.move)):
            self.value = 0.0
            return
        self.board.push(said.move)
        self.found += 1
        line = self.puzzle.uci[2 * self.found :]
        if self.board.is_game_over() or len(line) < 2:
            self.value = 1.0
        else:
            self.board.push_uci(line[0])

    def row(self) -> dict[str, Any]:
        """Write the puzzle down as it was answered."""
        puzzle = self.puzzle
        item_id, item_hash, repeat = puzzle.key
        return {
            "item_id": item_id,
            "item_hash": item_hash,
            "repeat": repeat,
            "value": self.value,
            "tags": (puzzle.band,),
            "answers": tuple(self.answers),
            "found": self.found,
            "n_moves": len(puzzle.uci) // 2,
            "failure": self.failure,
            "chance": chance_of(puzzle),
            "first_chance": chance_of(puzzle, 1),
        }


def _mates(board: chess.Board, move: chess.Move) -> bool:
    board.push(move)
    mate = board.is_checkmate()
    board.pop()
    return mate


def _play_through(puzzle: Puzzle) -> None:
    """Raise ValueError unless every move is legal and the solver has the last one."""
    board = chess.Board(puzzle.fen)
    for uci in puzzle.uci:
        board.push_uci(uci)
    if len(puzzle.uci) < 2 or len(puzzle.uci) % 2:
        raise ValueError("Moves must be the opponent's and the solver's in turn")
