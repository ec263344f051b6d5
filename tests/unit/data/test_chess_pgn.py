from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tunebook.data.chess.games import BadGame, check_game
from tunebook.data.chess.pgn import PgnGame, read_moves, split_games, write_game
from tunebook.data.chess.read import game_of_row
from tunebook.data.rows import read_rows
from tunebook.data.sources import locate
from tunebook.errors import DataError

pytest.importorskip("chess")

Write = Callable[[str, str | bytes], Path]

TWO_GAMES = """[Event "a \\"first\\" game"]
[Result "1-0"]

1. e4 { [%eval 0.2] [%clk 0:05:00] } e5 2. Qh5 (2. Nf3 Nc6 (2... d6 {Philidor; solid}) 3. Bb5) Nc6
3. Bc4 $6 Nf6?? ; the mistake (of many
4. Qxf7# 1-0


[Event "second"]

1.d4 d5 2.c4 *
"""


def cut(text: str) -> list[PgnGame]:
    return list(split_games(enumerate(text.splitlines(keepends=True), start=1), "games.pgn"))


def test_games_are_cut_at_their_headers() -> None:
    first, second = cut(TWO_GAMES)
    assert (first.line, second.line) == (1, 9)
    assert first.tags == {"Event": 'a "first" game', "Result": "1-0"}
    assert second.tags == {"Event": "second"}


def test_comments_variations_and_annotations_are_left_out() -> None:
    moves, result = read_moves(cut(TWO_GAMES)[0].movetext)
    assert moves == ["e4", "e5", "Qh5", "Nc6", "Bc4", "Nf6", "Qxf7#"]
    assert result == "1-0"
    assert read_moves("1.d4 d5 2.c4 *") == (["d4", "d5", "c4"], "*")


def test_a_header_inside_a_comment_begins_no_game() -> None:
    text = '[Event "x"]\n\n1. e4 { a note\n[Event "no"]\n\n1-0 } e5 0-1\n'
    (game,) = cut(text)
    assert read_moves(game.movetext) == (["e4", "e5"], "0-1")


def test_games_without_headers_end_with_their_results() -> None:
    assert [read_moves(g.movetext)[0] for g in cut("1. e4 e5 1-0\n\n1. d4 d5 0-1\n")] == [
        ["e4", "e5"],
        ["d4", "d5"],
    ]


def test_a_comment_that_is_never_closed_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"games\.pgn: a comment of the game at line 1 is never"):
        cut('[Event "x"]\n\n1. e4 { open\n')


def test_a_broken_header_line_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"games\.pgn: line 2 is no header line"):
        cut('[Event "x"]\n[Result 1-0]\n\n1. e4 *\n')


@pytest.mark.parametrize("name", ["g.pgn", "g.pgn.gz", "g.pgn.zst"])
def test_pgn_files_are_read_packed_or_not(write: Write, name: str) -> None:
    raw = TWO_GAMES.encode()
    packed = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    path = write(name, packed.get(Path(name).suffix, bytes)(raw))
    rows = list(read_rows(locate(str(path)).files[0]))
    assert [game_of_row(row, {}, "pgn").result for row in rows] == ["1-0", "*"]
    assert rows[1].place == f"{path}, game 2"


def test_a_file_is_read_game_by_game(write: Write) -> None:
    path = write("g.pgn", "1. e4 e5 1-0\n\n" * 3 + "1. e4 { open")
    rows = read_rows(locate(str(path)).files[0])
    assert [next(rows).row for _ in range(3)] == [1, 2, 3]
    with pytest.raises(DataError, match="never closed"):
        next(rows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1. e4 e5 2. Ke3 *", "ply 3, 'Ke3', is illegal"),
        ("1. e4 e5 2. Zf3 *", "ply 3, 'Zf3', is no move in SAN"),
        ("1. Nf3 a6 2. Nc3 a5 3. Nd4 a4 4. Nb5 *", "ply 7, 'Nb5', is ambiguous"),
        ("1. e4 -- 2. d4 *", "ply 2, '--', is illegal"),
        ("1. e4 ½-½", "ply 2, '½-½', is no move"),
    ],
)
def test_an_illegal_move_in_san_is_refused_naming_its_ply(
    write: Write, text: str, said: str
) -> None:
    path = write("g.pgn", text)
    (row,) = read_rows(locate(str(path)).files[0])
    with pytest.raises(BadGame) as caught:
        game_of_row(row, {}, "pgn")
    assert f"{path}, game 1: {said}" in str(caught.value)


def test_a_header_and_moves_that_end_differently_are_refused(write: Write) -> None:
    path = write("g.pgn", '[Result "1-0"]\n\n1. e4 e5 0-1\n')
    (row,) = read_rows(locate(str(path)).files[0])
    with pytest.raises(BadGame, match="says Result 1-0, and the moves end with 0-1"):
        game_of_row(row, {}, "pgn")


def test_a_game_that_is_cut_off_is_refused(write: Write) -> None:
    path = write("g.pgn", '[Result "1-0"]\n\n1. e4 e5 2. Nf3')
    (row,) = read_rows(locate(str(path)).files[0])
    with pytest.raises(BadGame, match="game 1: the moves do not end with a result"):
        game_of_row(row, {}, "pgn")


def test_python_chess_reads_what_is_written() -> None:
    import chess.pgn

    tags = {"Site": "a place", "WhiteElo": "1500", "Result": "1/2-1/2", "ECO": "C20"}
    start = "4k3/P7/8/8/8/8/4p3/1K6 b - - 0 12"
    for game in (
        check_game(tags, "e2e4 e7e5 g1f3".split(), "g"),
        check_game({"FEN": start, "SetUp": "1"}, "e2e1q b1c2 e8d7 a7a8n".split(), "g"),
    ):
        read = chess.pgn.read_game(io.StringIO(write_game(game)))
        assert read is not None
        assert not read.errors
        assert tuple(move.uci() for move in read.mainline_moves()) == game.uci
        assert {k: read.headers[k] for k in game.tags} == {**game.tags}
        assert read.headers["Result"] == game.result


def test_what_is_written_is_read_back() -> None:
    event = 'a "great" one \\ really'
    game = check_game({"Result": "0-1", "Event": event}, "e2e4 e7e5".split(), "g")
    (again,) = cut(write_game(game) + "\n")
    assert tuple(read_moves(again.movetext)[0]) == game.san
    assert (again.tags["Result"], again.tags["Event"]) == ("0-1", event)
