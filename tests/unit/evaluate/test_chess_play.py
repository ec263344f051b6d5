from __future__ import annotations

import io
import random
from collections.abc import Sequence

import pytest

chess = pytest.importorskip("chess")
pgn = pytest.importorskip("chess.pgn")

from tunebook.errors import UsageError  # noqa: E402
from tunebook.evaluate.chess.asking import Ask, one_by_one  # noqa: E402
from tunebook.evaluate.chess.games import (  # noqa: E402
    Fixture,
    PlayedGame,
    Policy,
    Rules,
    fixtures,
    play,
    write_pgn,
)
from tunebook.evaluate.chess.players import RandomMover, read_spec  # noqa: E402
from tunebook.evaluate.chess.positions import (  # noqa: E402
    PHASES,
    PLY_TAGS,
    Line,
    ask_positions,
    ply_tag,
    read_openings,
    read_positions,
)
from tunebook.evaluate.chess.prompts import Wording  # noqa: E402
from tunebook.evaluate.chess.puzzles import Puzzle, ask_puzzles, chance_of  # noqa: E402
from tunebook.recipe.chess import Chess  # noqa: E402

TEXT = Wording(Chess(header=False), as_text=True)
START = Line("start", "opening", ())


def board_of(prompt: str) -> chess.Board:
    """Set up what a prompt of moves leads to, as python-chess reads it."""
    game = pgn.read_game(io.StringIO(f"{prompt} *"))
    assert game is not None
    assert not game.errors
    return game.end().board()


class Chooser:
    """Answers a prompt of moves with the legal move that comes first, and remembers batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, asks: Sequence[Ask]) -> list[str]:
        self.batches.append(len(asks))
        return [self.move(ask.prompt) for ask in asks]

    def move(self, prompt: str) -> str:
        board = board_of(prompt)
        return f" {min(board.san(m) for m in board.legal_moves)} 1-0"


def play_one(answers: Sequence[str], policy: Policy, *, white: bool = True) -> PlayedGame:
    said = iter(answers)
    fixture = Fixture("random", policy, START, white)
    [game] = play(
        [fixture],
        lambda asks: [next(said) for _ in asks],
        {"random": RandomMover()},
        TEXT,
        Rules(retries=2),
        seed=0,
    )
    return game


def test_the_first_text_that_is_no_legal_move_loses_a_strict_game() -> None:
    game = play_one([" e4", " Ke8"], "strict")
    assert (game.result, game.score, game.end) == ("0-1", 0.0, "failure")
    assert (game.asked, game.legal) == (2, 1)
    assert game.failures == ((2, "illegal", " Ke8"),)


def test_a_result_for_the_opponent_is_a_resignation_where_that_is_the_policy() -> None:
    resigned = play_one([" e4", " 0-1"], "resign")
    assert (resigned.end, resigned.score, resigned.asked, resigned.failures) == (
        "resigned", 0.0, 1, (),
    )  # fmt: skip
    assert play_one([" e4", " 1-0"], "resign").failures[0][1] == "premature_result"
    assert play_one([" e4", " 0-1"], "strict").failures[0][1] == "premature_result"


def test_a_retry_asks_again_and_counts_the_first_attempt_only() -> None:
    game = play_one(["?", " e4", "1.", "Ke8", "e5e6"], "retry")
    assert (game.end, game.asked, game.legal) == ("failure", 2, 0)
    kinds = [kind for _, kind, _ in game.failures]
    assert kinds == ["unparsable", "move_number_only", "illegal", "illegal"]
    assert len(game.uci) == 2


def test_a_constrained_game_tells_the_legal_moves_of_its_position() -> None:
    seen: list[tuple[str, ...]] = []

    def mate_fast(asks: Sequence[Ask]) -> list[str]:
        seen.extend(ask.legal for ask in asks)
        return [random.Random(1).choice(ask.legal) for ask in asks]

    fixture = Fixture("random", "constrained", START, white=True)
    rules = Rules(max_plies=20)
    [game] = play([fixture], mate_fast, {"random": RandomMover()}, TEXT, rules, seed=3)
    assert len(seen[0]) == 20
    assert "Nf3" in seen[0]
    assert (game.end, game.score, game.legal) == ("too_long", 0.5, game.asked)


def test_all_games_that_wait_for_the_model_are_one_batch() -> None:
    games = fixtures(["random"], ["strict"], read_openings(), n=12)
    chooser = Chooser()
    played = list(
        play(games, chooser, {"random": RandomMover()}, TEXT, Rules(max_plies=14), seed=0)
    )
    assert len(played) == 12
    assert chooser.batches[0] == 12
    assert {game.white for game in played} == {True, False}
    alone = [
        game
        for one in games
        for game in play(
            [one], one_by_one(Chooser()), {"random": RandomMover()}, TEXT,
            Rules(max_plies=14), seed=0,
        )
    ]  # fmt: skip
    assert sorted(alone, key=lambda g: g.id) == sorted(played, key=lambda g: g.id)


def test_the_pgn_of_a_game_holds_its_moves_and_what_was_no_move() -> None:
    game = play_one([" e4", " {Qh9}"], "strict")
    text = write_pgn(game, "run_1", {"WhiteElo": 1500})
    read = pgn.read_game(io.StringIO(text))
    assert read is not None
    assert not read.errors
    assert [move.uci() for move in read.mainline_moves()] == list(game.uci)
    assert read.headers["White"] == "run_1"
    assert read.headers["Result"] == "0-1"
    assert "comment: ' (Qh9)'" in text
    assert read.headers["Termination"] == "failure"


def test_positions_are_many_of_every_phase_and_openings_have_no_twin() -> None:
    positions = read_positions()
    assert {phase: sum(p.name == phase for p in positions) for phase in PHASES} == dict.fromkeys(
        PHASES, 80
    )
    boards = [line.board() for line in positions]
    assert len({board.epd() for board in boards}) == len(boards)
    assert not any(board.is_game_over() for board in boards)
    assert len({line.uci for line in read_openings()}) >= 50
    assert {ply_tag(len(line.uci)) for line in positions} == set(PLY_TAGS)


def test_a_position_is_asked_as_the_moves_that_lead_to_it() -> None:
    [[row]] = ask_positions(read_positions()[:1], TEXT, Chooser(), seed=0)
    assert board_of(row["prompt"]).epd() == read_positions()[0].board().epd()
    assert (row["value"], row["failure"]) == (1.0, None)
    [[row]] = ask_positions([START], TEXT, lambda asks: ["Ke2" for _ in asks], seed=0)
    assert (row["value"], row["failure"], row["answer"]) == (0.0, "illegal", "Ke2")
    [[row]] = ask_positions([START], TEXT, lambda asks: [None for _ in asks], seed=0)
    assert row["value"] is None


def test_the_header_shows_a_win_of_the_side_to_move_and_the_position_where_it_must() -> None:
    wording = Wording(Chess(header=["Result", "WhiteElo"]), as_text=True)
    board = chess.Board()
    assert wording.prompt(board) == '[Result "1-0"]\n[WhiteElo "2000"]\n\n1.'
    board.push_san("e4")
    assert wording.prompt(board) == '[Result "0-1"]\n[WhiteElo "2000"]\n\n1. e4'
    ending = chess.Board("8/4P1k1/8/8/8/8/6K1/8 w - - 0 40")
    assert TEXT.prompt(ending) == f'[FEN "{ending.fen()}"]\n\n40.'
    asked = Wording(Chess(header=False, template="{side}: {moves}"), as_text=False)
    assert asked.prompt(board) == "Black: 1. e4"


MATE = Puzzle("mate", "6k1/5ppp/8/8/8/8/1R3PPP/R5K1 b - - 0 1", ("g8h8", "a1a8"), 650)
"""Ra8 and Rb8 both give mate; the line names one of them."""


def test_a_puzzle_is_solved_by_its_line_and_chance_is_that_of_random_moves() -> None:
    def rows(text: str) -> dict[str, object]:
        [[row]] = ask_puzzles([MATE], TEXT, lambda asks: [text for _ in asks], seed=0)
        return row

    board = chess.Board(MATE.fen)
    board.push_uci("g8h8")
    assert rows(" Ra8")["value"] == 1.0
    assert rows(" Rb8#")["value"] == 1.0
    assert rows(" Ra7")["value"] == 0.0
    assert rows("1-0")["failure"] == "premature_result"
    assert rows("Ra8#")["tags"] == ("600-799",)
    assert chance_of(MATE) == pytest.approx(2 / board.legal_moves.count())


@pytest.mark.parametrize("name", ["rnd", "random:2", "skill:21", "skill", "elo:abc", "stockfish:3"])
def test_an_opponent_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="there is no chess opponent"):
        read_spec(name)
    assert read_spec("random:1").name == "random"
