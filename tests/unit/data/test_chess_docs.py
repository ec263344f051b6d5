"""The page about chess shows what the commands on it print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunebook.cli.main import main
from tunebook.recipe.load import load_run_file

pytest.importorskip("chess")

PAGE = (Path(__file__).parents[3] / "docs" / "chess.md").read_text(encoding="utf-8")


def block(kind: str, holds: str) -> str:
    (found,) = [b for b in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) if holds in b]
    return str(found)


@pytest.fixture
def games(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "games.pgn"
    path.write_text(block("pgn", "Anna"))
    return path


def test_the_bad_game_is_refused_as_shown(games: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = block("console", "$ tunebook data chess games.pgn\n")
    assert main(["data", "chess", games.name]) == 2
    assert shown == f"$ tunebook data chess games.pgn\n{capsys.readouterr().err}"


def test_the_good_games_are_counted_and_asked_as_shown(
    games: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "tunebook data chess games.pgn --keep-going --pgn good.pgn"
    shown = block("console", command)
    assert main(command.split()[1:]) == 0
    printed = re.sub(r"; [\d,]+ games/s", "", capsys.readouterr().out)
    # What an engine answers depends on its version.
    assert (
        printed.partition("best_move (")[0].rstrip("\n").removesuffix("written    good.pgn")
        in (shown.partition("\n")[2])
    )
    command, _, rows = block("console", "$ cat tasks.jsonl").split("\n", 2)
    assert main(command.split()[2:]) == 0
    assert (games.parent / "tasks.jsonl").read_text() == rows


def test_the_run_file_shown_is_one(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: chess\n" + block("yaml", "chess:"))
    assert load_run_file(path).recipe.data[0].chess.per_game == 2
