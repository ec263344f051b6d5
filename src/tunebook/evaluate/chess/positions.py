"""The fixed positions in which a model is asked for a legal move, and the openings of its games.

Both lie in the package, made by `tools/make_chess_suite.py`: positions of games that engines and
dice played, so that no model was trained on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chess

from tunebook.evaluate.chess.asking import Answerer, Ask, seed_of
from tunebook.evaluate.chess.moves import Said, read_move
from tunebook.evaluate.chess.prompts import Wording

_DATA = Path(__file__).parents[2] / "embedded" / "data"
PHASES = ("opening", "middle", "end", "random")
_PLIES = (0, 10, 20, 40, 60, 80)


@dataclass(frozen=True, slots=True)
class Line:
    """Moves in UCI from the usual start; `name` is the phase of a position or of an opening."""

    id: str
    name: str
    uci: tuple[str, ...]

    def board(self) -> chess.Board:
        """Set up the position after the moves."""
        board = chess.Board()
        for move in self.uci:
            board.push_uci(move)
        return board


def read_positions(per_phase: int | None = None) -> list[Line]:
    """Read the fixed positions, at most so many of each phase; no two are of the same game."""
    lines = _read("chess-positions.tsv")
    return [line for phase in PHASES for line in [x for x in lines if x.name == phase][:per_phase]]


def read_openings() -> list[Line]:
    """Read the lines that games begin with."""
    return _read("chess-openings.tsv")


def key_of(line: Line) -> tuple[str, str, int]:
    """Give what a position's row is known by: id, hash of what is asked, repeat."""
    return line.id, hashlib.sha256(" ".join(line.uci).encode()).hexdigest()[:16], 0


def ask_positions(
    positions: Sequence[Line], wording: Wording, answer: Answerer, seed: int, at_once: int = 64
) -> Iterator[list[dict[str, Any]]]:
    """Ask for a move in each position; yield rows by the batch, value 1 for a legal move.

    A row whose prompt is too long has the value None.
    """
    for first in range(0, len(positions), at_once):
        chosen = positions[first : first + at_once]
        boards = [line.board() for line in chosen]
        asks = [
            Ask(wording.prompt(board), seed_of(seed, line.id))
            for line, board in zip(chosen, boards, strict=True)
        ]
        yield [
            _row(line, ask.prompt, raw, None if raw is None else read_move(board, raw))
            for line, board, ask, raw in zip(chosen, boards, asks, answer(asks), strict=True)
        ]


def _row(line: Line, prompt: str, raw: str | None, said: Said | None) -> dict[str, Any]:
    item_id, item_hash, repeat = key_of(line)
    return {
        "item_id": item_id,
        "item_hash": item_hash,
        "repeat": repeat,
        "value": None if said is None else float(said.move is not None),
        "tags": (line.name, ply_tag(len(line.uci))),
        "prompt": prompt,
        "answer": raw,
        "failure": said and said.failure,
        "wrong_mark": bool(said and said.wrong_mark),
    }


def ply_tag(ply: int) -> str:
    """Name the stretch of a game that a ply is in; plies count from 0."""
    starts = [start for start in _PLIES if start <= ply]
    after = _PLIES[len(starts)] if len(starts) < len(_PLIES) else None
    return f"ply {starts[-1]}+" if after is None else f"ply {starts[-1]}-{after - 1}"


PLY_TAGS = tuple(map(ply_tag, _PLIES))


def _read(name: str) -> list[Line]:
    with open(_DATA / name, encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines if not line.startswith("#")]
    return [Line(id_, phase, tuple(moves.split())) for id_, phase, moves in rows]
