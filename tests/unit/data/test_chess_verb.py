from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tunebook.cli.main import main
from tunebook.data.chess.games import check_game
from tunebook.data.chess.survey import Survey, read_games
from tunebook.data.sources import locate

pytest.importorskip("chess")

GOOD = {"Moves": "e2e4 e7e5 d1h5 b8c6 f1c4 g8f6 h5f7".split(), "Result": "1-0", "ECO": "C20"}
DRAWN = {"Moves": "d2d4 d7d5 c2c4", "Result": "1/2-1/2", "WhiteElo": 1500, "BlackElo": "1612"}
ILLEGAL = {"Moves": ["e2e4", "e7e5", "e1e3"], "Result": "0-1"}
EMPTY: dict[str, Any] = {"Moves": [], "Result": "0-1"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*args: object) -> int:
    return main(["data", "chess", *map(str, args)])


def test_games_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "g.jsonl", GOOD, DRAWN, EMPTY)
    assert run(path, "--task", "last_move", "--task", "result", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["games_in"], found["games_out"], found["plies"]) == (3, 2, 10)
    assert found["dropped"] == {"no moves": 1}
    assert found["results"] == {"1-0": 1, "1/2-1/2": 1}
    assert found["elo"] == [1500, 1612]
    assert found["openings"] == {"C20": 1}
    assert found["tasks"] == {"last_move": 2, "result": 2}
    assert found["examples"]["last_move"]["completion"] == "Qxf7#"


def test_a_bad_game_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "g.jsonl", GOOD, ILLEGAL)
    assert run(path, "--pgn", tmp_path / "out.pgn") == 2
    said = capsys.readouterr().err
    assert f"{path}, line 2: ply 3, 'e1e3', is illegal for White in position" in said
    # Nothing is left behind that looks whole.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.jsonl"]


def test_keep_going_leaves_bad_games_out_and_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "g.jsonl", ILLEGAL, GOOD, {**GOOD, "Result": "0-1"}, {"Moves": None})
    assert run(path, "--keep-going", "--json", "--pgn", tmp_path / "out.pgn") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dropped"] == {
        "illegal move": 1,
        "wrong result": 1,
        "no list of moves": 1,
    }
    assert found["games_in"] == sum(found["dropped"].values()) + found["games_out"]
    assert "ply 3" in found["drops"]["illegal move"][0]
    located = locate(str(tmp_path / "out.pgn"))
    games = read_games(located, {}, Survey("", "pgn"), keep_going=False, limit=None)
    assert [game.uci for _, game in games] == [tuple(GOOD["Moves"])]


def test_no_game_left_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write(tmp_path / "g.jsonl", ILLEGAL, EMPTY), "--keep-going") == 2
    assert "no game is left: 2 in, dropped 1 illegal move, 1 no moves" in capsys.readouterr().err


def test_questions_are_written_as_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write(tmp_path / "g.jsonl", GOOD, DRAWN), tmp_path / "tasks.jsonl"
    assert run(path, "--out", out, "--task", "next_move", "--set", "per_game=2") == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["g#1.1", "g#1.2", "g#2.1", "g#2.2"]
    assert {row["game"] for row in rows} == {"g#1", "g#2"}
    keys = {"id", "task", "prompt", "completion", "game", "format", "document"}
    assert all(set(row) == keys for row in rows)
    assert f"written    {out}" in capsys.readouterr().out


def test_the_order_of_the_rows_does_not_change_the_questions(tmp_path: Path) -> None:
    found = []
    for name, rows in (("a", (GOOD, DRAWN)), ("b", (DRAWN, GOOD))):
        out = tmp_path / f"{name}.out.jsonl"
        path = write(tmp_path / f"{name}.jsonl", *rows)
        assert run(path, "--out", out, "--task", "masked_moves", "--task", "next_move") == 0
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        found.append({(row["prompt"], row["completion"]) for row in lines})
    assert found[0] == found[1]


def test_pgn_is_packed_by_its_ending_and_reads_as_the_same_games(tmp_path: Path) -> None:
    path, out = write(tmp_path / "g.jsonl", GOOD, DRAWN), tmp_path / "out.pgn.gz"
    assert run(path, "--pgn", out) == 0
    text = gzip.decompress(out.read_bytes()).decode()
    assert "1. e4 e5 2. Qh5 Nc6 3. Bc4 Nf6 4. Qxf7# 1-0\n" in text
    located = locate(str(out))
    games = read_games(located, {}, Survey("", "pgn"), keep_going=False, limit=None)
    again = [game for _, game in games]
    assert again[0].san == check_game({}, GOOD["Moves"], "g").san
    assert again[1].tags["BlackElo"] == "1612"


def test_a_file_that_is_there_is_never_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "g.jsonl", GOOD)
    before = path.read_bytes()
    assert run(path, "--out", path) == 2
    assert "is there already" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_limit_reads_no_further(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write(tmp_path / "g.jsonl", GOOD, ILLEGAL), "--limit", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["games_in"] == 1


def test_a_template_with_braces_is_taken_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "g.jsonl", GOOD)
    args = ("--task", "last_move", "--set", r"template={side}:\n{moves}", "--json")
    assert run(path, *args) == 0
    prompt = json.loads(capsys.readouterr().out)["examples"]["last_move"]["prompt"]
    assert prompt == "White:\n1. e4 e5 2. Qh5 Nc6 3. Bc4 Nf6 4."


def test_own_column_names_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", {"uci_moves": GOOD["Moves"], "outcome": "1-0"})
    assert run(path, "--column", "Moves=uci_moves", "--column", "Result=outcome") == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--set", "per_gam=3"], "there is no such setting"),
        (["--set", "per_game"], "is not KEY=VALUE"),
        (["--set", "per_game=0"], "per_game is 0"),
        (["--set", "template={foo}"], "must hold no other fields"),
        (["--task", "best_move", "--engine", "no-such-engine"], "there is no chess engine"),
        (["--pgn", "no-such-folder/x.pgn"], "there is no folder no-such-folder"),
        (["--column", "Moves=other"], "has no 'other'"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], said: str
) -> None:
    assert run(write(tmp_path / "g.jsonl", GOOD), *args) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_puzzles_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    puzzle = {"PuzzleId": "000aY", "FEN": "x", "Moves": "e2e4 e7e5"}
    assert run(write(tmp_path / "g.jsonl", puzzle)) == 2
    assert "this is a chess puzzle" in capsys.readouterr().err
