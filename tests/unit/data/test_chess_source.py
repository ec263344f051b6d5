"""Chess games as a source of a run: what the reader makes of them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from tunebook.data.detect import detect
from tunebook.data.examples import Read, Reader
from tunebook.data.formats import find_builder
from tunebook.data.sources import locate
from tunebook.errors import DataError
from tunebook.recipe.tree import Source

pytest.importorskip("chess")

MATE = "e2e4 e7e5 d1h5 b8c6 f1c4 g8f6 h5f7".split()
GAMES: list[dict[str, Any]] = [
    {"Moves": MATE, "Result": "1-0", "WhiteElo": "1500"},
    {"Moves": "d2d4 d7d5 c2c4 e7e6 b1c3 g8f6".split(), "Result": "0-1"},
    {"Moves": "g1f3 d7d5 g2g3 c7c5".split(), "Result": "1/2-1/2"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, stage: str = "sft", **chess: object) -> list[Read]:
    source = Source.model_validate({"path": str(path), "chess": chess})
    located = locate(str(path))
    return list(Reader(located, detect(located, source), source, stage).examples())


def test_rows_of_moves_are_detected_and_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", GAMES)
    found = read(path, tasks=["last_move"])
    assert [one.example.messages[-1].content for one in found] == ["Qxf7#", "Nf6", "c5"]
    assert detect(locate(str(path)), Source(path=str(path))).format == "chess-uci"


def test_moves_in_one_text_are_the_same_game(tmp_path: Path) -> None:
    texts = [{**game, "Moves": " ".join(game["Moves"])} for game in GAMES]
    lists = read(write(tmp_path / "a.jsonl", GAMES))
    again = read(write(tmp_path / "b.jsonl", texts))
    assert [r.example.messages for r in again] == [r.example.messages for r in lists]


def test_all_questions_about_a_game_are_one_document(tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", GAMES)
    found = read(path, tasks=["next_move", "result"], per_game=3)
    assert [one.example.id for one in found][:3] == ["g#1.1", "g#1.2", "g#1.3"]
    assert len({one.document for one in found}) == len(GAMES)
    assert all(len({r.document for r in found if r.row == row}) == 1 for row in (1, 2, 3))


def test_a_game_keeps_its_side_of_the_split_whatever_is_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", GAMES)
    asked = [
        {one.row: one.document for one in read(path, **settings)}
        for settings in ({}, {"per_game": 2}, {"template": "{moves}"}, {"seed": 9})
    ]
    assert all(documents == asked[0] for documents in asked)


def test_stage_cpt_reads_games_as_text(tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", GAMES)
    first = read(path, "cpt")[0].example
    assert [m.role for m in first.messages] == ["text"]
    assert first.messages[0].content == (
        '[Result "1-0"]\n[WhiteElo "1500"]\n\n1. e4 e5 2. Qh5 Nc6 3. Bc4 Nf6 4. Qxf7# 1-0\n'
    )


def test_pgn_files_ask_the_same_as_the_rows_of_the_same_games(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "g.jsonl", GAMES[:1]), per_game=4, header=False)
    pgn = tmp_path / "g.pgn"
    pgn.write_text('[Result "1-0"]\n\n1. e4 e5 2. Qh5 Nc6 3. Bc4 Nf6 4. Qxf7# 1-0\n')
    games = read(pgn, per_game=4, header=False)
    assert [r.example.messages for r in games] == [r.example.messages for r in rows]


@pytest.mark.parametrize("stage", ["sft", "cpt"])
def test_an_illegal_move_stops_a_run_by_name(tmp_path: Path, stage: str) -> None:
    path = write(tmp_path / "g.jsonl", [GAMES[0], {"Moves": ["e2e4", "e2e4"]}])
    with pytest.raises(DataError, match=r"g\.jsonl, line 2: ply 2, 'e2e4', is illegal for Black"):
        read(path, stage)


def test_a_game_without_moves_is_one_row_without_an_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", [GAMES[0], {"Moves": []}])
    assert [len(one.example.messages) for one in read(path)] == [2, 0]


def test_what_builds_examples_travels_to_worker_processes() -> None:
    for stage in ("sft", "cpt"):
        build = find_builder("chess-uci", 0, stage)
        assert pickle.loads(pickle.dumps(build)) is build  # noqa: S301
