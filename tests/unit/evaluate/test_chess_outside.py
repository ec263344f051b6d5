from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("chess")

from tunebook.cli.main import main

MATE = "1. f3 e5 2. g4 Qh4#"


def game(white: str, black: str, result: str, moves: str = MATE, **tags: object) -> str:
    header = {"White": white, "Black": black, "Result": result, **tags}
    return "".join(f'[{k} "{v}"]\n' for k, v in header.items()) + f"\n{moves} {result}\n\n"


def judge(path: Path, capsys: pytest.CaptureFixture[str], games: str, *args: str) -> dict[str, Any]:
    file = path / "games.pgn"
    file.write_text(games, encoding="utf-8")
    assert main(["chess", "--games", str(file), "--json", *args]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_games_made_elsewhere_give_points_and_elo_with_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = "1. e4 e5"
    games = "".join(
        game("us", "them", "1-0", quiet, BlackElo=1500) + game("them", "us", result, WhiteElo=1500)
        for result in ("1-0", "0-1", "0-1", "1/2-1/2")
    )
    # A mate is a mate, whatever the header says; what is read is the header.
    found = judge(tmp_path, capsys, games)
    assert found["subject"] == "us"
    assert (found["n"], found["missing"]) == (8, 0)
    assert found["score"] == pytest.approx(6.5 / 8)
    assert found["interval"][0] < found["score"] < found["interval"][1]
    elo = found["elo"]
    # 400 log10(s / (1 - s)) above the opponent, the Elo of a score of s
    assert elo["elo"] == pytest.approx(1500 + 254.7, abs=0.1)
    assert elo["sources"] == {"them": "WhiteElo and BlackElo of the games"}
    by_hand = judge(tmp_path, capsys, games, "--rating", "them=1000")
    assert by_hand["elo"]["elo"] == pytest.approx(1000 + 254.7, abs=0.1)
    assert "by hand" in by_hand["elo"]["sources"]["them"]


def test_without_ratings_there_is_a_difference_to_one_opponent_and_nothing_against_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    games = game("us", "them", "1-0", "1. e4") + game("us", "them", "0-1", "1. e4")
    found = judge(tmp_path, capsys, games)
    assert found["elo"]["scale"] == "Elo above them"
    assert found["interval"] == [0, 1]  # two games say nothing, and no more than that
    both = judge(tmp_path, capsys, games + game("us", "others", "1-0", "1. e4"))["elo"]
    assert both["elo"] is None
    assert "no rating of others, them" in both["reason"]


def test_when_all_games_are_lost_there_is_only_a_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = judge(tmp_path, capsys, game("us", "them", "0-1", BlackElo=1320) * 10)
    assert (found["score"], found["elo"]["elo"]) == (0, None)
    low, high = found["elo"]["interval"]
    assert low is None
    assert high < 1320
    assert found["interval"][1] > 0.05


def test_a_game_that_stops_at_no_legal_move_is_counted_by_kind_and_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    games = (
        game("us", "them", "0-1", "1. e4 e5 2. Ke3")
        + game("them", "us", "*", "1. e4 Ke5")
        + game("us", "them", "1-0", "1. e4 Nd9")
    )
    found = judge(tmp_path, capsys, games)
    assert found["details"]["illegal"] == {
        "games": 2, "failures": {"illegal": 2}, "plies": [2, 1],
    }  # fmt: skip
    assert (found["n"], found["missing"]) == (2, 1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "say which run"),
        (["--games", "games.pgn", "--player", "nobody"], "no game is of 'nobody'"),
        (["--games", "rows.json"], "rows.json is no PGN file"),
        (["--games", "games.pgn", "--rating", "them"], "is not NAME=VALUE"),
        (["--games", "games.pgn", "--rating", "them=strong"], "a number is needed"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("games.pgn").write_text(game("us", "them", "0-1"))
    Path("rows.json").write_text('[{"text": "no game"}]')
    assert main(["chess", *args]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
