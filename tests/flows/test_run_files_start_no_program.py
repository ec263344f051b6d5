"""A run file may be a stranger's: whatever it says, no program of its author is started."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("chess")

from pydantic import BaseModel

from tunebook.book.places import create_book
from tunebook.cli.main import main
from tunebook.recipe.tree import Recipe

GAME = '[Result "1-0"]\n\n1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6 5. O-O Be7 1-0\n\n'
# Keys by which other tools take commands, Python paths and hooks out of such files.
RUNS_THINGS = {
    *("command", "cmd", "exec", "executable", "program", "script", "shell", "hook", "hooks"),
    *("callback", "callbacks", "plugin", "plugins", "module", "entry_point", "python", "import"),
    *("env", "environment", "interpreter", "launcher", "remote_code", "trust_remote_code"),
}


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book with a run whose folder holds a program and games to be labelled by it."""
    book = create_book(tmp_path / "book")
    folder = book / "runs" / "x"
    folder.mkdir()
    (folder / "games.pgn").write_text(GAME * 40)
    for name in ("evil.sh", "stockfish", "stockfish-99"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {tmp_path / 'RAN'}\n")
        (folder / name).chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f".:{Path('/usr/bin')}")
    return folder


def write(folder: Path, engine: str, **more: Any) -> None:
    asked = {"tasks": ["best_move"], "engine": engine, "depth": 2}
    source = {"path": "games.pgn", "format": "pgn", "chess": asked}
    values = {"name": "x", "model": "tunebook/tiny", "data": [source], **more}
    (folder / "run.yaml").write_text(json.dumps(values))


@pytest.mark.parametrize(
    "engine",
    [
        *("./evil.sh", "evil.sh", "sh", "/bin/sh", "~/evil.sh", "./stockfish", "../x/stockfish"),
        *("stockfish/../evil.sh", "stockfish;sh", "stockfish\\sh", "stockfish sh", "Stockfish", ""),
        *("stockfish\n", "-stockfish", "sh -c stockfish", "{FOLDER}/evil.sh", "{FOLDER}/stockfish"),
    ],
)
def test_a_run_file_names_a_stockfish_of_path_and_no_other_program(
    stranger: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    write(stranger, engine.format(FOLDER=stranger))
    assert main(["plan", "x"]) == 2
    said = capsys.readouterr().err
    assert "starts no other program" in said
    assert "TUNEBOOK_ENGINE" in said
    assert not (stranger.parents[2] / "RAN").exists()


def test_a_stockfish_that_only_lies_in_the_working_folder_is_not_found(
    stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(stranger, "stockfish-99")
    assert main(["plan", "x"]) != 0
    assert "there is no chess engine 'stockfish-99'" in capsys.readouterr().err
    assert not (stranger.parents[2] / "RAN").exists()


def by_extends(folder: Path) -> list[str]:
    (folder / "run.yaml").rename(folder / "base.yaml")
    (folder / "run.yaml").write_text("extends: ./base.yaml\nname: x\n")
    return ["plan", "x"]


def by_extending_a_run(folder: Path) -> list[str]:
    (folder.parent / "y").mkdir()
    (folder.parent / "y" / "run.yaml").write_text("extends: x\nname: y\n")
    return ["plan", "y"]


def by_override(folder: Path) -> list[str]:
    write(folder, "stockfish")
    return ["plan", "x", "data.0.chess.engine=./evil.sh"]


def by_training(folder: Path) -> list[str]:
    return ["train", "x"]


def resolve(folder: Path) -> None:
    """Leave what a run that was begun holds: the run file with every value."""
    values = json.loads((folder / "run.yaml").read_text())
    values["data"][0]["path"] = str(folder / "games.pgn")
    (folder / "resolved.yaml").write_text(json.dumps({"recipe": values, "environment": {}}))


def by_resume(folder: Path) -> list[str]:
    resolve(folder)
    return ["resume", "x"]


def by_fork(folder: Path) -> list[str]:
    resolve(folder)
    return ["resume", "x", "--fork", "y"]


@pytest.mark.parametrize(
    "way",
    [by_extends, by_extending_a_run, by_override, by_training, by_resume],
)
def test_no_way_to_a_run_file_goes_round_that(
    stranger: Path, capsys: pytest.CaptureFixture[str], way: Callable[[Path], list[str]]
) -> None:
    write(stranger, str(stranger / "evil.sh"))
    assert main(way(stranger)) != 0
    assert "starts no other program" in capsys.readouterr().err
    assert not (stranger.parents[2] / "RAN").exists()


def test_a_fork_starts_no_program_either(stranger: Path) -> None:
    write(stranger, str(stranger / "evil.sh"))
    assert main(by_fork(stranger)) != 0
    assert not (stranger.parents[2] / "RAN").exists()


def test_a_program_that_no_task_needs_is_nothing_but_text(
    stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"tasks": ["next_move"], "engine": str(stranger / "evil.sh")}
    source = {"path": str(stranger / "games.pgn"), "format": "pgn", "chess": asked}
    write(stranger, "stockfish", data=[source], accept=["random-base"])
    assert main(["plan", "x", "--no-probe"]) == 0, capsys.readouterr().err
    assert not (stranger.parents[2] / "RAN").exists()


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        seen = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for inner in seen:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from fields(inner, f"{prefix}{name}.")


def test_the_engine_is_the_only_key_of_a_run_file_that_names_a_program() -> None:
    found = list(fields(Recipe))
    assert "data.chess.engine" in found
    assert not [key for key in found if key.rsplit(".", 1)[-1] in RUNS_THINGS]
