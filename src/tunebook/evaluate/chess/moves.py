"""Read a move out of what a model wrote, and say how it failed where there is none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

import chess

from tunebook.data.chess.games import RESULTS

Failure = Literal[
    "empty",
    "premature_result",
    "truncated_result",
    "truncated_promotion",
    "move_number_only",
    "comment",
    "unparsable",
    "ambiguous",
    "illegal",
]
FAILURES: tuple[Failure, ...] = get_args(Failure)
"""Every way to fail; a text that fails in several ways counts under the first of them."""

WELL_FORMED: frozenset[Failure | None] = frozenset({None, "ambiguous", "illegal"})
"""What is written as a move, whether or not it can be played (None: it can)."""

_ENDS = (*RESULTS, "*")
_CUT_ENDS = {end[:n] for end in RESULTS for n in range(2, len(end))} | {"0"}
_NUMBER = re.compile(r"\d+\.*|\.+")
_NUMBER_BEFORE = re.compile(r"(?:\d*\.+)(?=[A-Za-z])")
_CUT_PROMOTION = re.compile(r"(?:[a-h]x?)?[a-h][18]=?")
_MARK_OF_LAST_MOVE = re.compile(r"[+#]+(?=\s)")
_COMMENTS = ("{", ";", "(", "$")


@dataclass(frozen=True, slots=True)
class Said:
    """What a model wrote for a move: the text as it was, its first word, and the move or failure.

    `wrong_mark` says that a legal move has a check or mate sign too many or too few.
    """

    raw: str
    word: str
    move: chess.Move | None
    failure: Failure | None
    wrong_mark: bool = False


def read_move(board: chess.Board, raw: str) -> Said:
    """Read the first word of a text as a move in a position.

    A move number in front of it (`12.Nf3`), signs of quality after it and wrong or missing signs of
    check are let pass; so is a legal move in UCI, and a sign of check for the move before, which a
    text that goes on right behind that move may begin with.
    """
    mark = _MARK_OF_LAST_MOVE.match(raw)
    word = next(iter(raw[mark.end() if mark else 0 :].split()), "")
    failure = _failure_of_form(word)
    if failure is not None:
        return Said(raw, word, None, failure)
    bare = _NUMBER_BEFORE.sub("", word, count=1).rstrip("!?.,;:")
    unmarked = bare.rstrip("+#")
    if _CUT_PROMOTION.fullmatch(unmarked) and (
        unmarked.endswith("=") or isinstance(_parse(board, f"{unmarked}=Q"), chess.Move)
    ):
        return Said(raw, word, None, "truncated_promotion")
    found = _parse(board, unmarked)
    if not isinstance(found, chess.Move):
        return Said(raw, word, None, found)
    marks = board.san(found).partition("+")[1] or board.san(found).partition("#")[1]
    written_as_san = unmarked != found.uci()
    return Said(raw, word, found, None, written_as_san and bare[len(unmarked) :] != marks)


def _failure_of_form(word: str) -> Failure | None:
    """Find the failures that can be seen without a position."""
    if not word:
        return "empty"
    if word in _ENDS:
        return "premature_result"
    if word in _CUT_ENDS:
        return "truncated_result"
    if _NUMBER.fullmatch(word):
        return "move_number_only"
    if word.startswith(_COMMENTS):
        return "comment"
    return None


def _parse(board: chess.Board, word: str) -> chess.Move | Failure:
    try:
        move = board.parse_san(word)
    except chess.AmbiguousMoveError:
        return "ambiguous"
    except chess.IllegalMoveError:
        return _parse_uci(board, word) or "illegal"
    except chess.InvalidMoveError:
        return _parse_uci(board, word) or "unparsable"
    return move if move else "unparsable"  # `--` is a null move, which is no move of a game


def _parse_uci(board: chess.Board, word: str) -> chess.Move | None:
    try:
        move = board.parse_uci(word)
    except ValueError:
        return None
    return move or None
