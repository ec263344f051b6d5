"""illegal-label: a chess move that is asked for must be legal where the prompt's moves end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tunebook.plan.rows import first_exchanges
from tunebook.plan.subject import Subject
from tunebook.records import Finding

if TYPE_CHECKING:
    import chess

_ROWS = 100
_TAG = re.compile(r'^\[\w+ "[^"]*"\]\s*$', re.MULTILINE)
_FEN = re.compile(
    r"(?:[pnbrqkPNBRQK1-8]+/){7}[pnbrqkPNBRQK1-8]+ [wb] (?:-|[KQkq]+) (?:-|[a-h][36]) \d+ \d+"
)
_NUMBER = re.compile(r"\d+\.+")
_SAN = re.compile(r"(?:O-O(?:-O)?|[KQRBN]?[a-h]?[1-8]?x?[a-h][1-8](?:=[QRBN])?)[+#]?")


def check(subject: Subject) -> Iterator[Finding]:
    """Play the moves of sampled prompts and hold the move in the answer to the position."""
    built = subject.prepared.built if subject.prepared is not None else ()
    games = {one.name for one in built if one.detected.format in ("chess-uci", "pgn")}
    if not games:
        return
    for source in sorted(games):
        found = [e for e in first_exchanges(subject) if e.row.source == source]
        found = found[:: -(-len(found) // _ROWS) or 1]
        judged = [(one, is_legal(one.prompt, one.answer)) for one in found]
        illegal = [one for one, legal in judged if legal is False]
        n_judged = sum(legal is not None for _, legal in judged)
        if not illegal:
            continue
        yield Finding(
            "illegal-label",
            "refuse",
            f"{source}: in {len(illegal)} of {n_judged} sampled rows the move in the answer is not "
            f"legal in the position of its prompt, first in {illegal[0].row.id} "
            f"({illegal[0].answer[:20]!r})",
            {
                "share": len(illegal) / n_judged,
                "illegal_rows": len(illegal),
                "sampled_rows": n_judged,
                "rows": [one.row.id for one in illegal[:5]],
                "example": {"prompt": illegal[0].prompt[-300:], "answer": illegal[0].answer[:100]},
            },
            "take each label from the very position that is asked about, not one ply before or "
            "after it",
        )


def is_legal(prompt: str, answer: str) -> bool | None:
    """Say whether a move is legal where a prompt's game stands; None when no move is asked for."""
    import chess

    if not _SAN.fullmatch(answer.strip()):
        return None
    board = _position(prompt)
    if board is None:
        return None
    try:
        board.parse_san(answer.strip())
    except ValueError:
        return False
    return isinstance(board, chess.Board)


def _position(prompt: str) -> chess.Board | None:
    """Set up the position that a prompt's moves lead to, or the one it states."""
    import chess

    text = _TAG.sub("", prompt)
    stated = [found[0] for found in _FEN.finditer(prompt)]
    shown = [found[0] for found in _FEN.finditer(text)]
    start = next((fen for fen in stated if fen not in shown), None)
    first = _NUMBER.search(_FEN.sub(" ", text))
    try:
        if first is None:
            return chess.Board(shown[-1]) if shown else None
        board = chess.Board(start) if start else chess.Board()
        words = _NUMBER.sub(" ", _FEN.sub(" ", text)[first.start() :]).split()
        is_move = [_SAN.fullmatch(word) is not None for word in words]
        behind = is_move.index(False) if False in is_move else len(words)
        if any(is_move[behind:]):
            return None  # moves are masked or spoken of, and the position is not known
        for word in words[:behind]:
            board.push_san(word)
    except ValueError:
        return None
    return board if board.move_stack else None
