"""Best moves of another position, and evaluations of the other side (17)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

Caught = Callable[..., Mapping[str, Any]]
# Of moves at random the embedded model knows no more than one with random weights would.
GUESSES = ["random-base"]
ENGINE = f"""#!{sys.executable}
import sys, chess
for line in sys.stdin:
    words = line.split()
    if words[0] == "uci": print("id name Fake 1\\nuciok", flush=True)
    if words[0] == "isready": print("readyok", flush=True)
    if words[0] == "position": board = chess.Board(" ".join(words[2:]))
    if words[0] == "go":
        move = next(iter(board.legal_moves)).uci()
        worth = 500 if board.turn else -500  # White is winning
        print(f"info depth 2 score cp {{worth}} pv {{move}}\\nbestmove {{move}}", flush=True)
"""


@pytest.fixture
def best_moves(
    in_book: Path,
    random_games: Callable[[int], list[dict[str, str]]],
    write_data: Callable[..., Path],
    write_run: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A run on best moves by an engine that names some legal move and always likes White."""
    from tunebook.data.chess.engine import close_engines

    engine = in_book / "engine"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    monkeypatch.setenv("TUNEBOOK_ENGINE", str(engine))
    asked = {"tasks": ["best_move"], "depth": 2, "min_ply": 4}
    source = {"path": str(write_data("games.jsonl", random_games(40))), "chess": asked}
    yield write_run([source], max_seq_len=512, accept=GUESSES)
    close_engines()


def one_ply_later(patch: pytest.MonkeyPatch) -> None:
    from tunebook.data.chess import tasks

    real = tasks._ask_at

    def ask_at(task: Any, game: Any, settings: Any, plies: int, label: Any) -> Any:
        found = real(task, game, settings, plies, label)
        if plies + 1 >= len(game.san):
            return found
        if task == "next_move":
            return replace(found, completion=game.san[plies + 1])
        return replace(found, completion=label(tasks.position_after(game, plies + 1)).san)

    patch.setattr(tasks, "_ask_at", ask_at)


@pytest.mark.defect(17, "illegal-label", "P")
def test_a_best_move_of_the_position_one_ply_later_is_refused(
    caught: Caught, best_moves: Path
) -> None:
    found = caught(best_moves, "illegal-label", "refuse", one_ply_later)
    assert "is no legal move in position" in found["message"]


@pytest.mark.defect(17, "illegal-label", "P")
def test_a_move_of_another_position_is_found_in_the_stored_rows(
    caught: Caught,
    random_games: Callable[[int], list[dict[str, str]]],
    write_data: Callable[..., Path],
    write_run: Callable[..., Path],
) -> None:
    source = {"path": str(write_data("games.jsonl", random_games(40)))}
    run_file = write_run([source], max_seq_len=512, accept=GUESSES)
    found = caught(run_file, "illegal-label", "refuse", one_ply_later)
    assert found["evidence"]["share"] > 0.5


@pytest.mark.defect(17, "sign-flip", "P")
def test_an_evaluation_of_the_side_to_move_taken_for_whites_is_refused(
    caught: Caught, best_moves: Path
) -> None:
    from tunebook.data.chess import labels

    real = labels.as_label

    def unsigned(board: Any, found: Any) -> Any:
        worth = (found.centipawns or 0) / 100
        return replace(real(board, found), evaluation=f"{worth:+.2f}")

    found = caught(
        best_moves, "sign-flip", "refuse", lambda patch: patch.setattr(labels, "as_label", unsigned)
    )
    assert "good for Black, and its play is good for White" in found["message"]
