"""Labels by an engine: a fake one, a small script that speaks UCI, and Stockfish where it is."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunebook.data.chess.engine import (
    Engine,
    Evaluation,
    TypedEngine,
    close_engines,
    find_engine,
    shared_engine,
    typed_engine,
)
from tunebook.data.chess.games import check_game
from tunebook.data.chess.labels import Label, as_label, check_label, make_labeller
from tunebook.data.chess.tasks import ask
from tunebook.errors import DataError, UsageError
from tunebook.recipe.chess import Chess

chess = pytest.importorskip("chess")

# Black to move mates with Ra1; White to move mates with Ra8.
BLACK_MATES = "6k1/5ppp/8/8/8/8/r4PPP/6K1 b - - 0 1"
WHITE_MATES = "6k1/5ppp/8/8/8/8/R4PPP/6K1 w - - 0 1"
BLACK_IS_MATED_IN_TWO = "k7/8/8/8/8/8/1R6/2R3K1 b - - 0 1"

MakeEngine = Callable[[str], Path]


@pytest.fixture
def make_engine(tmp_path: Path) -> Iterator[MakeEngine]:
    """Give a function that makes an engine with a fixed answer to `go`."""

    def make(answer: str) -> Path:
        path = tmp_path / "engine"
        path.write_text(
            f"#!{sys.executable}\n"
            "import sys\n"
            "for line in sys.stdin:\n"
            "    word = line.split()[0]\n"
            "    if word == 'uci': print('id name Fake 1\\nuciok', flush=True)\n"
            "    if word == 'isready': print('readyok', flush=True)\n"
            f"    if word == 'go': print({answer!r}, flush=True)\n"
            "    if word == 'quit': break\n"
        )
        path.chmod(0o755)
        return path

    yield make
    close_engines()


@pytest.fixture(scope="module")
def stockfish() -> Iterator[str]:
    try:
        found = find_engine(None)
    except UsageError:
        pytest.skip("Stockfish is not installed")
    yield found
    close_engines()


def with_engine(settings: Chess, engine: str | Path) -> Chess:
    """Name an engine as `--engine` does: by a path, which no run file may."""
    return settings.model_copy(update={"engine": typed_engine(str(engine))})


def labelled(engine: Path, fen: str) -> Label:
    return make_labeller(with_engine(Chess(depth=5), engine))(chess.Board(fen))


def test_a_label_is_from_the_view_of_white_whoever_moves(make_engine: MakeEngine) -> None:
    engine = make_engine("info depth 5 score cp 150 pv e7e5\nbestmove e7e5")
    label = labelled(engine, "rnbqkbnr/pppppppp/8/8/4P3/8/PPPP1PPP/RNBQKBNR b KQkq - 0 1")
    assert label == Label("e7e5", "e5", "-1.50")


def test_bounds_are_no_evaluations(make_engine: MakeEngine) -> None:
    engine = make_engine(
        "info depth 4 score cp 20 pv e2e4\ninfo depth 5 score cp 900 upperbound pv e2e4\n"
        "bestmove e2e4"
    )
    assert labelled(engine, chess.STARTING_FEN).evaluation == "+0.20"


def test_a_label_of_the_position_one_ply_later_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine("info depth 5 score cp 10 pv e7e5\nbestmove e7e5")
    with pytest.raises(DataError, match="illegal-label: e7e5 is no legal move in position"):
        labelled(engine, chess.STARTING_FEN)


def test_a_label_from_elsewhere_is_held_to_its_own_position(make_engine: MakeEngine) -> None:
    with (
        Engine(str(make_engine("bestmove e7e5"))) as engine,
        pytest.raises(DataError, match="illegal-label"),
    ):
        check_label(chess.Board(), Label("e7e5", "e5", "+0.10"), engine)


def test_a_mate_by_black_with_the_sign_of_white_is_refused(make_engine: MakeEngine) -> None:
    line = ("a2a1",)
    board = chess.Board(BLACK_MATES)
    with Engine(str(make_engine("bestmove a2a1"))) as engine:
        check_label(board, as_label(board, Evaluation("a2a1", None, 1, line)), engine, line)
        with pytest.raises(DataError, match=r"sign-flip: label Ra1# .* #1, good for White"):
            check_label(board, Label("a2a1", "Ra1#", "#1"), engine, line)


def test_a_decisive_advantage_of_the_other_side_is_refused(make_engine: MakeEngine) -> None:
    # After the move it is Black's turn, and Black is said to be far ahead.
    engine = make_engine("info depth 8 score cp 700 pv e2e4\nbestmove e2e4")
    with pytest.raises(DataError, match="sign-flip"):
        labelled(engine, chess.STARTING_FEN)


def test_an_engine_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="there is no chess engine 'stockfish-none'"):
        find_engine("stockfish-none")
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    with pytest.raises(UsageError, match="task best_move needs the chess engine Stockfish"):
        find_engine(None)


def test_an_engine_is_told_no_secrets_and_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary")
    monkeypatch.setenv("HOME", str(tmp_path))
    told = tmp_path / "told"
    path = tmp_path / "engine"
    path.write_text(f"#!/bin/sh\nenv > {told}\n")
    path.chmod(0o755)
    with pytest.raises(DataError, match="does not answer as a chess engine does"):
        Engine(str(path))
    assert "PATH=" in told.read_text()
    assert "canary" not in told.read_text()
    assert "HOME" not in told.read_text()


def test_the_engine_of_the_environment_is_for_what_a_run_file_cannot_name(
    make_engine: MakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_engine("bestmove e2e4")
    monkeypatch.setenv("TUNEBOOK_ENGINE", str(own))
    for stated in (None, "stockfish-none", "/bin/sh", "sh"):
        assert find_engine(stated) == str(own)
    assert find_engine(typed_engine("/bin/sh")) == "/bin/sh"
    there = tmp_path / "stockfish-9"
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_engine("stockfish-9") == str(there)
    monkeypatch.setenv("TUNEBOOK_ENGINE", str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="TUNEBOOK_ENGINE names it"):
        find_engine(None)


def test_an_engine_is_not_looked_for_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stockfish-0").write_text("#!/bin/sh\n")
    (tmp_path / "stockfish-0").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}/usr/bin")
    with pytest.raises(UsageError, match="there is no chess engine 'stockfish-0'"):
        find_engine("stockfish-0")


def test_a_program_that_is_no_engine_is_refused() -> None:
    with pytest.raises(DataError, match="does not answer as a chess engine does"):
        Engine(shutil.which("true") or "true")


def test_an_engine_is_started_once_for_a_process(make_engine: MakeEngine) -> None:
    path = TypedEngine(make_engine("bestmove e2e4"))
    assert shared_engine(path) is shared_engine(path)


def test_an_engine_without_an_answer_is_refused(make_engine: MakeEngine) -> None:
    with pytest.raises(DataError, match="gives no move"):
        labelled(make_engine("bestmove (none)"), chess.STARTING_FEN)


@pytest.mark.stockfish
@pytest.mark.parametrize(
    ("fen", "san", "evaluation"),
    [(BLACK_MATES, "Ra1#", "#-1"), (WHITE_MATES, "Ra8#", "#1")],
)
def test_stockfish_mates_for_the_side_to_move(
    stockfish: str, fen: str, san: str, evaluation: str
) -> None:
    label = make_labeller(with_engine(Chess(depth=8), stockfish))(chess.Board(fen))
    assert (label.san, label.evaluation) == (san, evaluation)


@pytest.mark.stockfish
def test_a_side_that_is_mated_soon_sees_the_other_one_win(stockfish: str) -> None:
    label = make_labeller(with_engine(Chess(depth=10), stockfish))(
        chess.Board(BLACK_IS_MATED_IN_TWO)
    )
    assert label.evaluation.startswith("#")
    assert not label.evaluation.startswith("#-")


@pytest.mark.stockfish
def test_best_moves_are_legal_where_they_are_asked_and_the_same_every_time(stockfish: str) -> None:
    moves = "e2e4 e7e5 f1c4 b8c6 d1h5 g8f6 h5f7".split()
    game = check_game({}, moves, "g")
    settings = with_engine(Chess(tasks=["best_move"], per_game=7, depth=8), stockfish)
    found = ask(game, settings, make_labeller(settings))
    assert len(found) == 7
    for one in found:
        board = chess.Board()
        for san in game.san[: one.plies]:
            board.push_san(san)
        board.parse_san(one.completion)
    # Each position is searched with an empty memory: neither order nor neighbours count.
    close_engines()
    alone = make_labeller(settings)
    for one in reversed(found):
        board = chess.Board()
        for san in game.san[: one.plies]:
            board.push_san(san)
        label = alone(board)
        assert (label.san, label.evaluation) == (one.completion, one.evaluation)
    (last,) = [one for one in found if one.plies == 6]
    assert (last.completion, last.evaluation) == ("Qxf7#", "#1")
