"""What a model is asked for a move, and the one shape in which anything that answers is called."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import chess


@dataclass(frozen=True, slots=True)
class Ask:
    """One question for a move.

    `attempt` counts from 0; a later one is to be drawn, not the most likely text again. `legal` has
    the legal moves in SAN where nothing else may be answered.
    """

    prompt: str
    seed: int
    attempt: int = 0
    legal: tuple[str, ...] = ()


Answerer = Callable[[Sequence[Ask]], Sequence[str | None]]
"""Answers many questions at once; None where a prompt is longer than the model's context."""


class Mover(Protocol):
    """Anything that writes text when it is asked for a move."""

    def move(self, prompt: str) -> str:
        """Write what the move is."""
        ...


def one_by_one(mover: Mover) -> Answerer:
    """Let anything with a `move` answer; it sees prompts alone, so it cannot be held to moves."""
    return lambda asks: [mover.move(ask.prompt) for ask in asks]


def legal_san(board: chess.Board) -> tuple[str, ...]:
    """Write the legal moves of a position, in an order of their own."""
    return tuple(sorted(board.san(move) for move in board.legal_moves))


def seed_of(*parts: object) -> int:
    """Give a number of 32 bits that is the same for the same parts on every machine."""
    return zlib.crc32("\x1f".join(map(str, parts)).encode())
