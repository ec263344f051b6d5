"""Write the fixed positions and opening lines that `tunebook chess` uses, the same from one seed.

    python tools/make_chess_suite.py OPENINGS.tsv.gz [--engine STOCKFISH]

OPENINGS.tsv.gz is the table of openings of lichess-org/chess-openings (CC0), with a column `uci`.
Openings are lines of it that Stockfish calls even. Positions of the phases opening, middle and end
are from games that Stockfish plays with itself from there, at a fixed number of nodes, with every
eighth move a random one; those of phase random are from games of random moves. What is written
depends on the version of Stockfish, which is noted in it.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
from pathlib import Path

import chess

from tunebook.data.chess.engine import Engine, find_engine

DATA = Path(__file__).resolve().parents[1] / "src/tunebook/embedded/data"
SEED = 6
N_OPENINGS = 60
N_PER_PHASE = 80
OPENING_PLIES = (4, 8)
EVEN_CENTIPAWNS = 60
JUDGING_NODES = 20_000
PLAYING_NODES = 500
RANDOM_SHARE = 0.125
PLIES = {"opening": (6, 16), "middle": (20, 48), "random": (1, 80)}
END_PIECES = 10
END_PLIES = 110


def below(n: int, draw: random.Random) -> int:
    return int(draw.random() * n)  # keeps its sequence from one version of Python to the next


def random_move(board: chess.Board, draw: random.Random) -> chess.Move:
    moves = sorted(board.legal_moves, key=chess.Move.uci)
    return moves[below(len(moves), draw)]


def choose_openings(table: Path, engine: Engine, draw: random.Random) -> list[list[str]]:
    with gzip.open(table, "rt", encoding="utf-8", newline="") as lines:
        rows = [row["uci"].split() for row in csv.DictReader(lines, delimiter="\t")]
    low, high = OPENING_PLIES
    left = [row for row in rows if low <= len(row) <= high]
    chosen: list[list[str]] = []
    first_moves: dict[str, int] = {}
    while len(chosen) < N_OPENINGS:
        line = left.pop(below(len(left), draw))
        start = line[0]
        if first_moves.get(start, 0) * 3 >= N_OPENINGS:  # at most a third begin alike
            continue
        board = chess.Board()
        for move in line:
            board.push_uci(move)
        found = engine.evaluate(board.fen(), 1, JUDGING_NODES)
        if found.centipawns is None or abs(found.centipawns) > EVEN_CENTIPAWNS:
            continue
        first_moves[start] = first_moves.get(start, 0) + 1
        chosen.append(line)
    return chosen


def play_position(
    phase: str, openings: list[list[str]], engine: Engine, draw: random.Random
) -> chess.Board | None:
    """Play one game to a position of its phase; None when it ends before."""
    board = chess.Board()
    if phase != "random":
        for move in openings[below(len(openings), draw)]:
            board.push_uci(move)
    low, high = PLIES.get(phase, (END_PLIES, END_PLIES))
    plies = low + below(high - low + 1, draw)
    while board.ply() < plies and not board.is_game_over(claim_draw=True):
        if phase == "end" and len(board.piece_map()) <= END_PIECES:
            return board
        if phase == "random" or draw.random() < RANDOM_SHARE:
            board.push(random_move(board, draw))
        else:
            board.push_uci(engine.play(board.fen(), (), f"nodes {PLAYING_NODES}"))
    reached = phase != "end" and board.ply() == plies
    return board if reached and not board.is_game_over(claim_draw=True) else None


def write(name: str, head: str, rows: list[tuple[str, str, list[str]]]) -> None:
    text = "".join(f"{id_}\t{phase}\t{' '.join(moves)}\n" for id_, phase, moves in rows)
    (DATA / name).write_text(f"# {head}\n{text}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("openings", type=Path)
    parser.add_argument("--engine")
    arguments = parser.parse_args()
    draw = random.Random(SEED)
    rows, seen = [], set()
    with Engine(find_engine(arguments.engine), {"Hash": 1}) as engine:
        openings = choose_openings(arguments.openings, engine, draw)
        for phase in ("opening", "middle", "end", "random"):
            number = 0
            while number < N_PER_PHASE:
                board = play_position(phase, openings, engine, draw)
                if board is None or board.epd() in seen:
                    continue
                seen.add(board.epd())
                number += 1
                rows.append((f"{phase}-{number}", phase, [m.uci() for m in board.move_stack]))
        made = f"made by tools/make_chess_suite.py with {engine.name}, seed {SEED}"
    write("chess-positions.tsv", f"{made}: id, phase, moves", rows)
    lines = [(f"line-{n}", "opening", line) for n, line in enumerate(openings, start=1)]
    write(
        "chess-openings.tsv", f"{made} of lichess-org/chess-openings (CC0): id, phase, moves", lines
    )


if __name__ == "__main__":
    main()
