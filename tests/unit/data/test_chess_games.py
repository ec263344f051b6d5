from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunebook.data.chess.games import BadGame, Game, check_game, number_moves, position_after
from tunebook.errors import DataError

chess = pytest.importorskip("chess")

SCHOLAR = "e2e4 e7e5 d1h5 b8c6 f1c4 g8f6 h5f7".split()
# Ten moves to a stalemate (Sam Loyd).
LOYD = (
    "e2e3 a7a5 d1h5 a8a6 h5a5 h7h5 h2h4 a6h6 a5c7 f7f6 c7d7 e8f7 d7b7 d8d3 b7b8 d3h7 b8c8 f7g6 c8e6"
).split()


def san_of(moves: str | list[str], **tags: str) -> tuple[str, ...]:
    return check_game(tags, moves.split() if isinstance(moves, str) else moves, "g").san


def test_short_and_long_castling_have_their_signs() -> None:
    played = "e2e4 e7e5 g1f3 g8f6 f1c4 f8c5 e1g1 d7d6 d2d3 c8g4 b1c3 b8c6 h2h3 d8d7 a2a3 e8c8"
    assert san_of(played)[6] == "O-O"
    assert san_of(played)[-1] == "O-O-O"


def test_castling_written_king_to_rook_is_the_same_move() -> None:
    game = check_game({}, "e2e4 e7e5 g1f3 g8f6 f1c4 f8c5 e1h1".split(), "g")
    assert game.san[-1] == "O-O"
    assert game.uci[-1] == "e1g1"


def test_en_passant_takes_on_the_square_it_passes() -> None:
    assert san_of("e2e4 a7a6 e4e5 d7d5 e5d6")[-1] == "exd6"


def test_a_promotion_names_the_piece_and_the_check() -> None:
    start = "8/P6k/8/8/8/8/7K/8 w - - 0 1"
    assert san_of("a7a8q", FEN=start) == ("a8=Q",)
    assert san_of("a7a8n", FEN=start) == ("a8=N",)
    assert san_of("a7a8q", FEN="7k/P7/8/8/8/8/7K/8 w - - 0 1") == ("a8=Q+",)


def test_two_knights_that_reach_one_square_are_told_apart() -> None:
    assert san_of("g1f3 a7a6 b1c3 a6a5 c3b1 a5a4 f3e5 a4a3 e5c4 h7h6 c4e3 h6h5 b1c3 h5h4 e3d5 g7g6"
                  " d5e3 g6g5 c3d5 g5g4 d5c3 f7f6 c3d5"
                  .replace("  ", " "))[-1] == "Ncd5"  # fmt: skip


def test_mate_gets_its_sign_and_decides_the_result() -> None:
    game = check_game({}, SCHOLAR, "g")
    assert game.san[-1] == "Qxf7#"
    assert game.result == "1-0"


def test_a_result_that_the_mate_contradicts_is_refused() -> None:
    with pytest.raises(BadGame, match=r"Result is 0-1, .* checkmate, which is 1-0") as caught:
        check_game({"Result": "0-1"}, SCHOLAR, "g")
    assert caught.value.reason == "wrong result"


def test_stalemate_is_a_draw_and_nothing_else() -> None:
    assert check_game({}, LOYD, "g").result == "1/2-1/2"
    with pytest.raises(BadGame, match="stalemate"):
        check_game({"Result": "1-0"}, LOYD, "g")


@pytest.mark.parametrize("result", ["1-0", "0-1", "1/2-1/2"])
def test_a_game_that_was_given_up_or_agreed_keeps_its_result(result: str) -> None:
    assert check_game({"Result": result}, ["e2e4"], "g").result == result


def test_a_game_without_a_known_end_has_the_result_star() -> None:
    assert check_game({}, ["e2e4"], "g").result == "*"


@pytest.mark.parametrize("ply", [1, 2, 5, 7])
def test_a_planted_illegal_move_is_refused_naming_its_ply(ply: int) -> None:
    moves = [*SCHOLAR]
    moves[ply - 1] = "e8e1"
    board = chess.Board()
    for move in moves[: ply - 1]:
        board.push_uci(move)
    with pytest.raises(BadGame) as caught:
        check_game({"Site": "https://example.org/abc"}, moves, "games.jsonl, line 3")
    said = str(caught.value)
    assert f"games.jsonl, line 3 (https://example.org/abc): ply {ply}, 'e8e1', is illegal" in said
    assert board.fen() in said
    assert caught.value.reason == "illegal move"


@pytest.mark.parametrize("move", ["0000", "e4", "e9e4", "", "e2e4q"])
def test_what_is_no_move_is_refused(move: str) -> None:
    with pytest.raises(BadGame, match="ply 1, "):
        check_game({}, [move], "g")


def test_a_move_that_leaves_the_king_in_check_is_illegal() -> None:
    with pytest.raises(BadGame, match="ply 4, 'a7a6', is illegal for Black"):
        check_game({}, "e2e4 f7f6 d1h5 a7a6".split(), "g")


def test_no_move_follows_mate() -> None:
    with pytest.raises(BadGame, match="ply 8"):
        check_game({}, [*SCHOLAR, "a7a6"], "g")


def test_a_game_without_moves_has_a_reason_of_its_own() -> None:
    with pytest.raises(BadGame) as caught:
        check_game({}, [], "g")
    assert caught.value.reason == "no moves"


def test_another_variant_is_refused_by_name() -> None:
    with pytest.raises(BadGame, match="'Atomic'"):
        check_game({"Variant": "Atomic"}, ["e2e4"], "g")


@pytest.mark.parametrize("fen", ["nonsense", "8/8/8/8/8/8/8/8 w - - 0 1"])
def test_a_start_that_is_no_position_is_refused(fen: str) -> None:
    with pytest.raises(BadGame) as caught:
        check_game({"FEN": fen}, ["e2e4"], "g")
    assert caught.value.reason == "illegal position"


def test_a_game_may_begin_anywhere_with_black_to_move() -> None:
    game = check_game({"FEN": "4k3/8/8/8/8/8/4P3/4K3 b - - 0 12"}, "e8e7 e2e4 e7e6".split(), "g")
    assert number_moves(game, game.san) == "12... Ke7 13. e4 Ke6"
    assert game.side_after(0) == "Black"
    assert game.side_after(1) == "White"
    assert position_after(game, 1).fen().startswith("8/4k3/")


def test_the_number_of_the_move_to_come_stands_at_the_end() -> None:
    game = check_game({}, SCHOLAR, "g")
    assert number_moves(game, game.san[:2], asks_for_next=True) == "1. e4 e5 2."
    assert number_moves(game, game.san[:3], asks_for_next=True) == "1. e4 e5 2. Qh5"
    assert number_moves(game, (), asks_for_next=True) == "1."


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'tunebook\[chess\]'"):
        check_game({}, ["e2e4"], "g")


def random_game(choices: list[int]) -> Game:
    board = chess.Board()
    moves = []
    for choice in choices:
        legal = sorted(move.uci() for move in board.legal_moves)
        if not legal:
            break
        moves.append(legal[choice % len(legal)])
        board.push_uci(moves[-1])
    return check_game({}, moves, "g")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=60))
def test_san_of_random_games_leads_back_to_the_same_moves(choices: list[int]) -> None:
    game = random_game(choices)
    again = check_game({}, game.san, "g", "san")
    assert again.uci == game.uci
    assert again.result == game.result
