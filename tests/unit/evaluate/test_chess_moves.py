from __future__ import annotations

import pytest

chess = pytest.importorskip("chess")

from tunebook.evaluate.chess.moves import FAILURES, read_move  # noqa: E402

PROMOTING = "8/4P1k1/8/8/8/8/6K1/8 w - - 0 1"
TWO_KNIGHTS = "4k3/8/8/8/8/5N2/8/1N2K3 w - - 0 1"
CHECKING = "4k3/8/8/8/8/8/8/R3K3 w - - 0 1"


@pytest.mark.parametrize(
    ("fen", "raw", "failure"),
    [
        (None, "", "empty"),
        (None, " \n\t", "empty"),
        (None, " 1-0", "premature_result"),
        (None, "1/2-1/2\n\n[Event", "premature_result"),
        (None, "*", "premature_result"),
        (None, "1-", "truncated_result"),
        (None, "1/2-1/", "truncated_result"),
        (PROMOTING, "e8=", "truncated_promotion"),
        (PROMOTING, "e8", "truncated_promotion"),
        (TWO_KNIGHTS, "e8", "illegal"),
        (None, "2.", "move_number_only"),
        (None, "12... e5", "move_number_only"),
        (None, "{ best by test } e4", "comment"),
        (None, "The best move is e4", "unparsable"),
        (None, "Nf", "unparsable"),
        (None, "--", "unparsable"),
        (None, "+", "unparsable"),
        (TWO_KNIGHTS, "Nd2", "ambiguous"),
        (None, "Ke2", "illegal"),
        (None, "e2e5", "illegal"),
        (None, "g1f4", "illegal"),
        (None, "O-O", "illegal"),
    ],
)
def test_a_text_that_is_no_move_fails_in_one_way(fen: str | None, raw: str, failure: str) -> None:
    said = read_move(chess.Board(fen) if fen else chess.Board(), raw)
    assert (said.failure, said.move, said.raw) == (failure, None, raw)
    assert failure in FAILURES


@pytest.mark.parametrize(
    ("fen", "raw", "uci", "wrong_mark"),
    [
        (None, " Nf3 Nc6 2. Bc4", "g1f3", False),
        (None, "1.e4", "e2e4", False),
        (None, "+ e4 e5", "e2e4", False),
        (None, "e4!?", "e2e4", False),
        (None, "Nf3+", "g1f3", True),
        (None, "g1f3", "g1f3", False),
        (CHECKING, "Ra8+", "a1a8", False),
        (CHECKING, "Ra8", "a1a8", True),
        (CHECKING, "Ra8#", "a1a8", True),
        (CHECKING, "0-0-0", "e1c1", False),
        (PROMOTING, "e8=N", "e7e8n", True),
        (PROMOTING, "e8Q", "e7e8q", False),
    ],
)
def test_a_legal_move_counts_whatever_stands_around_it(
    fen: str | None, raw: str, uci: str, wrong_mark: bool
) -> None:
    board = chess.Board(fen) if fen else chess.Board()
    if raw == "0-0-0":
        board.set_castling_fen("Q")
    said = read_move(board, raw)
    assert said.move is not None
    assert said.failure is None
    assert (said.move.uci(), said.wrong_mark) == (uci, wrong_mark)
