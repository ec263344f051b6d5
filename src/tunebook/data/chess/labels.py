"""Label a position with its best move, and hold the label to the rules of chess.

Two mistakes are easily made and never seen: a label taken from the position one ply later, and an
evaluation with the sign of the other side. Both are looked for in every label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunebook.data.chess.engine import Engine, Evaluation, shared_engine
from tunebook.errors import DefectError
from tunebook.recipe.chess import Chess

if TYPE_CHECKING:
    import chess

_DECISIVE_CENTIPAWNS = 300
_SECOND_LOOK_DEPTH = 8
_WAY_OUT = "check that `engine` speaks plain UCI, or leave task best_move out"

Labeller = Callable[["chess.Board"], "Label"]


@dataclass(frozen=True, slots=True)
class Label:
    """The best move of a position, and what the position is worth as White sees it.

    `evaluation` is in pawns (`+1.35`) or moves to mate (`#2` White mates, `#-2` Black does).
    """

    uci: str
    san: str
    evaluation: str


def make_labeller(settings: Chess) -> Labeller:
    """Give a function that labels positions with the engine of the settings, checked."""

    def label(board: chess.Board) -> Label:
        engine = shared_engine(settings.engine)
        found = engine.evaluate(board.fen(), settings.depth, settings.nodes)
        made = as_label(board, found)
        check_label(board, made, engine, found.line)
        return made

    return label


def as_label(board: chess.Board, found: Evaluation) -> Label:
    """Write an engine's answer as a label of the position it was asked about."""
    try:
        move = board.parse_uci(found.best)
    except ValueError:
        raise illegal_label(board, found.best) from None
    sign = 1 if board.turn else -1
    if found.mate is not None:
        evaluation = f"#{sign * found.mate}"
    else:
        evaluation = f"{sign * (found.centipawns or 0) / 100:+.2f}"
    return Label(move.uci(), board.san(move), evaluation)


def check_label(
    board: chess.Board, label: Label, engine: Engine, line: tuple[str, ...] = ()
) -> None:
    """Refuse a label that is illegal in its position or has the sign of the other side.

    A mate must be given by the side that the evaluation names when `line` is played out; a
    decisive advantage must not be the other side's when the position after the move is looked at.
    """
    try:
        move = board.parse_san(label.san)
    except ValueError:
        raise illegal_label(board, label.san) from None
    if move.uci() != label.uci:
        raise illegal_label(board, f"{label.san} ({label.uci})")
    favours_white = _favours_white(label.evaluation)
    if favours_white is None:
        return
    after = board.copy(stack=False)
    after.push(move)
    seen = _mated_side(board, line) if label.evaluation.startswith("#") else None
    if seen is None:
        seen = _second_look(after, engine)
    if seen is not None and seen != favours_white:
        sides = ("White", "Black") if favours_white else ("Black", "White")
        raise DefectError(
            "sign-flip",
            f"label {label.san} of position {board.fen()} has evaluation {label.evaluation}, good "
            f"for {sides[0]}, and its play is good for {sides[1]}",
            _WAY_OUT,
        )


def illegal_label(board: chess.Board, said: str) -> DefectError:
    """Write the error of a label that is no legal move in its position."""
    said_of = f"{said} is no legal move in position {board.fen()}"
    return DefectError("illegal-label", said_of, _WAY_OUT)


def _favours_white(evaluation: str) -> bool | None:
    """Say whom an evaluation favours; None when it is not decisive."""
    if evaluation.startswith("#"):
        # `#0` cannot be: a position that is mate has no best move.
        return not evaluation.startswith("#-")
    value = float(evaluation)
    return None if abs(value) * 100 < _DECISIVE_CENTIPAWNS else value > 0


def _mated_side(board: chess.Board, line: tuple[str, ...]) -> bool | None:
    """Play a line out: True when White mates, False when Black does, None when nobody does."""
    played = board.copy(stack=False)
    for uci in line:
        try:
            played.push_uci(uci)
        except ValueError:
            return None
    return (not played.turn) if played.is_checkmate() else None


def _second_look(after: chess.Board, engine: Engine) -> bool | None:
    """Ask who is decisively better after the move; None when nobody is."""
    if after.is_checkmate():
        return not after.turn
    if after.is_game_over():
        return None
    found = engine.evaluate(after.fen(), _SECOND_LOOK_DEPTH)
    worth = found.mate if found.mate is not None else found.centipawns or 0
    if found.mate is None and abs(worth) < _DECISIVE_CENTIPAWNS:
        return None
    return after.turn if worth > 0 else not after.turn
