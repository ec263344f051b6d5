"""Games against python-chess's own parser, and the two files of the same real games."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from tunebook.data.chess.games import Game
from tunebook.data.chess.pgn import MOVETEXT, read_moves
from tunebook.data.chess.read import game_of_row
from tunebook.data.chess.survey import Survey, format_of, read_games
from tunebook.data.rows import read_rows
from tunebook.data.sources import locate

pytest.importorskip("chess")

pytestmark = pytest.mark.shared_data

GAMES = 3187
SLICE = 150


def games_of(path: Path) -> list[Game]:
    located = locate(str(path))
    survey = Survey(str(path), format_of(located))
    found = read_games(located, {}, survey, keep_going=False, limit=None)
    return [game for _, game in found]


@pytest.fixture(scope="module")
def converted(shared_data: Path) -> list[Game]:
    """Every game of the file of UCI moves."""
    return games_of(shared_data / "chess" / "lichess-blitz-uci.jsonl.gz")


def test_uci_converted_equals_the_pgn_of_the_same_games_move_for_move(
    converted: list[Game], shared_data: Path
) -> None:
    written = games_of(shared_data / "chess" / "lichess-blitz.pgn.gz")
    assert len(converted) == len(written) == GAMES
    for number, (ours, theirs) in enumerate(zip(converted, written, strict=True), start=1):
        assert ours.san == theirs.san, number
        assert ours.uci == theirs.uci, number
        assert ours.result == theirs.result, number
        # The file of UCI moves words the termination in its own way (CHECKMATE for Normal).
        shared = set(ours.tags) & set(theirs.tags) - {"Termination"}
        assert {k: ours.tags[k] for k in shared} == {k: theirs.tags[k] for k in shared}, number
        assert shared >= {"Result", "WhiteElo", "BlackElo", "ECO", "TimeControl", "Site"}


def test_moves_and_header_are_those_that_python_chess_reads(shared_data: Path) -> None:
    import chess.pgn

    path = shared_data / "chess" / "lichess-blitz.pgn.gz"
    rows = read_rows(locate(str(path)).files[0])
    with gzip.open(path, "rb") as raw, io.TextIOWrapper(raw, "utf-8") as text:
        for _ in range(SLICE):
            theirs, row = chess.pgn.read_game(text), next(rows)
            ours = game_of_row(row, {}, "pgn")
            assert theirs is not None
            board, san = theirs.board(), []
            for move in theirs.mainline_moves():
                san.append(board.san_and_push(move))
            assert ours.san == tuple(san)
            assert dict(ours.tags) == {k: v for k, v in theirs.headers.items() if v}


def test_the_written_san_is_the_one_in_the_file(converted: list[Game], shared_data: Path) -> None:
    """The file's own words, not what a lenient parser makes of them."""
    path = shared_data / "chess" / "lichess-blitz.pgn.gz"
    for row, game in zip(read_rows(locate(str(path)).files[0]), converted, strict=True):
        assert tuple(read_moves(str(row.values[MOVETEXT]))[0]) == game.san
