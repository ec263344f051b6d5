"""Games by movers that follow rules, as the chess notebook's set has them: lists of UCI moves.

Each side sets its pieces up by one of a few plans, takes what it can for less, and else moves at
random, so the beginnings of games can be learned and their ends cannot. Every game is legal but
for those that were spoilt on purpose, each in one of six ways.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import chess

from recipe_data.rows import write_rows

GAMES = 560
SPOILT = 24
MOST_PLIES = 56
HASTE = 0.08  # how often a side forgets its plan
BEHIND = 7  # pawns, at which it gives up
PLANS = {
    chess.WHITE: (
        "e2e4 g1f3 f1c4 e1g1 d2d3 b1c3 c1g5 d1d2 a1d1",
        "d2d4 c1f4 e2e3 g1f3 f1d3 e1g1 b1d2 c2c3 d1e2",
        "c2c4 b1c3 g2g3 f1g2 g1f3 e1g1 d2d3 a1b1 b2b4",
    ),
    chess.BLACK: (
        "e7e5 b8c6 g8f6 f8c5 e8g8 d7d6 c8g4 d8d7 a8d8",
        "d7d5 g8f6 e7e6 f8d6 e8g8 b8d7 c7c6 d8e7 b7b6",
        "g7g6 f8g7 g8f6 e8g8 d7d6 b8c6 a8b8 c8d7 d8c8",
    ),
}
OPENINGS = {"e2e4": "C", "d2d4": "D", "c2c4": "A"}
WORTH = {
    chess.PAWN: 1,
    chess.KNIGHT: 3,
    chess.BISHOP: 3,
    chess.ROOK: 5,
    chess.QUEEN: 9,
    chess.KING: 0,
}


def make(folder: Path) -> None:
    """Write the games, the spoilt ones among them."""
    draw = random.Random(2023)
    rows = [play(draw) for _ in range(GAMES)]
    for n in range(SPOILT):
        rows.insert(draw.randrange(len(rows)), spoil(draw, play(draw), n % 6))
    write_rows(folder / "games.jsonl", rows)


def play(draw: random.Random) -> dict[str, Any]:
    """Play one game to its end, or to a resignation, or until both agree to a draw."""
    board = chess.Board()
    plans = {side: draw.choice(PLANS[side]).split() for side in PLANS}
    why = ""
    while not why and len(board.move_stack) < MOST_PLIES:
        board.push(choose(draw, board, plans[board.turn]))
        if board.is_game_over():
            why = "Normal"
        elif abs(balance(board)) >= BEHIND and draw.random() < 0.3:
            why = "Resignation"
    result = board.result()
    if why == "Resignation":
        result = "1-0" if balance(board) > 0 else "0-1"
    elif not why:
        why, result = "Agreement", "1/2-1/2"
    moves = [move.uci() for move in board.move_stack]
    return {
        "Moves": " ".join(moves),
        "Result": result,
        "WhiteElo": draw.randrange(400, 900),
        "BlackElo": draw.randrange(400, 900),
        "ECO": OPENINGS.get(moves[0], "B") + "00",
        "Termination": why,
    }


def choose(draw: random.Random, board: chess.Board, plan: list[str]) -> chess.Move:
    """Take what is worth more than what takes it, else go on with the plan, else move at random."""
    legal = list(board.legal_moves)
    if draw.random() > HASTE:
        won = [move for move in legal if gain(board, move) > 0]
        if won:
            return max(won, key=lambda move: (gain(board, move), move.uci()))
        for said in plan:
            move = chess.Move.from_uci(said)
            if move in legal and said not in {m.uci() for m in board.move_stack}:
                return move
    return draw.choice(legal)


def gain(board: chess.Board, move: chess.Move) -> int:
    """Say how many pawns more is taken than takes; 0 where nothing is."""
    taken, taking = board.piece_type_at(move.to_square), board.piece_type_at(move.from_square)
    if taken is None or taking is None:
        return 0
    free = not board.attackers(not board.turn, move.to_square)
    return WORTH[taken] if free else WORTH[taken] - WORTH[taking]


def balance(board: chess.Board) -> int:
    """Say by how many pawns White is ahead."""
    return sum(
        WORTH[piece.piece_type] * (1 if piece.color else -1) for piece in board.piece_map().values()
    )


def spoil(draw: random.Random, row: dict[str, Any], kind: int) -> dict[str, Any]:
    """Spoil a game as real files are spoilt: the one way in which it is wrong is its `kind`."""
    moves = row["Moves"].split()
    place = draw.randrange(4, len(moves))
    if kind == 0:  # A move of which the piece is elsewhere.
        board = chess.Board()
        for said in moves[:place]:
            board.push_uci(said)
        wrong = [f"{a}{b}" for a in ("a3", "e4", "h6") for b in ("b5", "h1", "c8")]
        legal = {move.uci() for move in board.legal_moves}
        moves[place] = draw.choice([said for said in wrong if said not in legal])
    elif kind == 1:  # One side moves twice.
        moves.insert(place, moves[place])
    elif kind == 2:  # Letters that are no move.
        moves[place] = "e9e5"
    elif kind == 3:
        return {**row, "Result": "2-0"}
    elif kind == 4:
        return {**row, "Variant": "Atomic"}
    else:
        # The foot of a loser's file: mate in four plies, with the wrong side as the winner.
        return {**row, "Moves": "f2f3 e7e5 g2g4 d8h4", "Result": "1-0", "Termination": "Normal"}
    return {**row, "Moves": " ".join(moves)}
