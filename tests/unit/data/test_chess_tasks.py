from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from tunebook.data.chess import tasks
from tunebook.data.chess.games import Game, check_game, position_after
from tunebook.data.chess.labels import Label
from tunebook.data.chess.tasks import Asked, ask, check_answers, game_text
from tunebook.errors import DataError
from tunebook.recipe.chess import Chess
from tunebook.recipe.tree import Source

chess = pytest.importorskip("chess")

TAGS = {
    "WhiteElo": "1500",
    "BlackElo": "1490",
    "Result": "1-0",
    "Termination": "Normal",
    "WhiteRatingDiff": "+5",
    "Event": "decided 1-0",
}
FREE = ["result", "next_move", "masked_moves", "last_move"]


def no_label(board: object) -> Label:
    raise AssertionError("no engine is asked for these tasks")


def game_of(seed: int, plies: int = 60) -> Game:
    draw, board, moves = random.Random(seed), chess.Board(), []
    while len(moves) < plies and not board.is_game_over():
        moves.append(draw.choice(sorted(m.uci() for m in board.legal_moves)))
        board.push_uci(moves[-1])
    result = {"*": "1-0"}.get(board.result(), board.result())
    return check_game({**TAGS, "Result": result}, moves, "g")


def asked_of(game: Game, **settings: object) -> list[Asked]:
    return ask(game, Chess.model_validate(settings), no_label)


def test_the_next_move_is_the_one_that_was_played_after_those_shown() -> None:
    game = game_of(1)
    for one in asked_of(game, tasks=["next_move"], per_game=20):
        assert one.completion == game.san[one.plies]
        shown = one.prompt.rpartition("\n")[2].split()
        assert [w for w in shown if not w.endswith(".")] == list(game.san[: one.plies])
        position_after(game, one.plies).parse_san(one.completion)
        assert f"What does {game.side_after(one.plies)} play" in one.prompt


def test_the_last_move_is_asked_for_after_all_others() -> None:
    game = game_of(2)
    (one,) = asked_of(game, tasks=["last_move"], per_game=5)
    assert (one.completion, one.plies) == (game.san[-1], len(game.san) - 1)


@pytest.mark.parametrize("header", [True, list(TAGS)])
def test_no_result_can_be_read_off_the_prompt_that_asks_for_it(header: object) -> None:
    for seed in range(20):
        (one,) = asked_of(game_of(seed), tasks=["result"], header=header)
        assert one.completion not in one.prompt
        assert "Result" not in one.prompt
        assert "Termination" not in one.prompt
        assert "RatingDiff" not in one.prompt
        assert '[WhiteElo "1500"]' in one.prompt


def test_other_tasks_show_the_header_as_given() -> None:
    (one,) = asked_of(game_of(1), tasks=["next_move"])
    assert f'[Result "{game_of(1).result}"]' in one.prompt
    (bare,) = asked_of(game_of(1), tasks=["next_move"], header=False)
    assert "[" not in bare.prompt


def test_a_game_without_a_known_end_is_not_asked_for_it() -> None:
    assert asked_of(check_game({}, ["e2e4"], "g"), tasks=["result"]) == []


@pytest.mark.parametrize("masked", [1, 3, 10])
def test_masked_moves_stand_nowhere_else_in_the_prompt(masked: int) -> None:
    seen = 0
    for seed in range(30):
        game = game_of(seed)
        for one in asked_of(game, tasks=["masked_moves"], per_game=3, masked=masked):
            moves = one.prompt.rpartition("\n")[2].split()
            answer = one.completion.split()
            assert moves.count("[?]") == len(answer)
            assert not set(answer) & set(moves)
            assert one.completion not in one.prompt
            filled = iter(answer)
            played = [next(filled) if w == "[?]" else w for w in moves if not w.endswith(".")]
            assert played == list(game.san)
            seen += 1
    assert seen > 60


def test_at_most_half_of_a_game_is_masked() -> None:
    game = check_game({}, "e2e4 e7e5 g1f3".split(), "g")
    (one,) = asked_of(game, tasks=["masked_moves"], masked=3)
    assert len(one.completion.split()) == 1


def test_questions_are_the_same_for_the_same_game_and_seed() -> None:
    settings = {"tasks": FREE, "per_game": 4, "seed": 3}
    games = [game_of(seed) for seed in range(5)]
    alone = [asked_of(game, **settings) for game in games]
    assert [asked_of(game, **settings) for game in reversed(games)] == alone[::-1]
    assert alone != [asked_of(game, **settings | {"seed": 4}) for game in games]


def test_the_draw_does_not_hang_on_the_header_or_the_template() -> None:
    game = game_of(1)
    other = check_game({}, game.uci, "g")
    places = [(a.task, a.plies) for a in asked_of(game, tasks=["next_move"], per_game=5)]
    again = asked_of(other, tasks=["next_move"], per_game=5, template="{moves}")
    assert [(a.task, a.plies) for a in again] == places


def test_more_questions_begin_with_the_fewer() -> None:
    game = game_of(1)
    few, many = (asked_of(game, tasks=FREE, per_game=n) for n in (2, 9))
    assert many[:2] == few
    assert len(many) == len({(a.prompt, a.completion) for a in many}) == 9


def test_tasks_come_by_their_shares() -> None:
    counts = Counter(
        a.task
        for seed in range(400)
        for a in asked_of(game_of(seed, 12), tasks={"next_move": 3, "result": 1})
    )
    assert 250 < counts["next_move"] < 350
    assert counts.total() == 400


def test_plies_bound_what_is_shown() -> None:
    found = asked_of(game_of(1), tasks=["next_move"], per_game=100, min_ply=10, max_ply=14)
    assert sorted(a.plies for a in found) == [10, 11, 12, 13, 14]
    assert asked_of(game_of(1, 5), tasks=["next_move"], min_ply=10) == []


def test_a_template_is_filled_with_its_fields() -> None:
    game = check_game({}, "e2e4 e7e5".split(), "g")
    (one,) = asked_of(game, tasks=["last_move"], template="{task}|{side}|{fen}|{moves}")
    fen = "rnbqkbnr/pppppppp/8/8/4P3/8/PPPP1PPP/RNBQKBNR b KQkq - 0 1"
    assert one.prompt == f"last_move|Black|{fen}|1. e4"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"template": "{moves} {foo}"}, "must hold no other fields"),
        ({"template": "{moves.__class__}"}, "must hold no other fields"),
        ({"template": "{moves"}, "must be a template"),
        ({"template": "hello"}, "must hold {moves} or {fen}"),
        ({"template": "{fen}", "tasks": ["masked_moves"]}, "{moves} for task masked_moves"),
        ({"tasks": []}, "at least one task"),
        ({"tasks": {"next_move": 2, "resut": 1}}, "must name tasks, not 'resut'"),
        ({"tasks": {"result": 0}}, "shares above 0"),
        ({"tasks": ["result", "result"]}, "each task once"),
        ({"mask": "a b"}, "one word"),
        ({"min_ply": 5, "max_ply": 4}, "must not be below"),
        ({"tusks": []}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: object, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Source.model_validate({"path": "g.pgn", "chess": settings})
    assert said in str(caught.value)


def test_a_label_from_one_ply_later_is_found_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def label(board: Any) -> Label:
        move = min(board.legal_moves, key=lambda move: move.uci())
        return Label(move.uci(), board.san(move), "+0.10")

    game = game_of(1)
    settings = Chess(tasks=["best_move"], per_game=4)
    check_answers(game, ask(game, settings, label))
    right = tasks.position_after
    monkeypatch.setattr(
        tasks, "position_after", lambda game, plies: right(game, plies + 1 if plies else 0)
    )
    with pytest.raises(DataError, match="illegal-label"):
        check_answers(game, ask(game, settings, label))


def test_a_game_as_text_has_header_moves_and_result() -> None:
    game = check_game({"Result": "1-0", "WhiteElo": "1500", "Site": "x"}, ["e2e4", "e7e5"], "g")
    assert game_text(game, Chess()) == '[Result "1-0"]\n[WhiteElo "1500"]\n\n1. e4 e5 1-0\n'
    assert game_text(game, Chess(header=False)) == "1. e4 e5 1-0\n"
