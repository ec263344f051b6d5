"""`tunebook recipes`: steps that are commands, kept answers, a report that has no gaps."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_train_flow import tunebook

from tunebook.book.places import RunFolder
from tunebook.cli.main import main
from tunebook.errors import BookError, RunEnded, RunFileError, StorageError, UsageError
from tunebook.workflows import recipes

STEPS = """\
title: a recipe
notebook: Nobody's.
minutes: 1
steps:
  - run: data stats rows.jsonl --json
    keep: rows
  - run: plan r.yaml --json
    exit_code: 2
  - run: runs --json
    needs: a-program-that-nobody-has
    keep: never
  - run: runs --json
    keep: runs
"""
REPORT = "{{ runs | length }} runs{% if left %}; left out: {{ left | join(', ') }}{% endif %}.\n"


def write_recipe(folder: Path) -> None:
    (folder / "twin").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(STEPS)
    (folder / "report.md").write_text(REPORT)
    (folder / "twin" / "rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (folder / "twin" / "r.yaml").write_text("name: r\n")
    (folder / "full").mkdir()
    (folder / "full" / "large.yaml").write_text("name: large\n")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shelf" / "small"
    write_recipe(folder)
    monkeypatch.setattr(recipes, "FOLDER", tmp_path / "shelf")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture(scope="module")
def book_of_one_that_ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ran")
    write_recipe(place / "shelf" / "small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "FOLDER", place / "shelf")
        patch.chdir(place)
        recipes.run_recipe("small")
    return place / "small-book"


@pytest.fixture
def ran(recipe: Path, book_of_one_that_ran: Path) -> Path:
    """The book of a recipe that was run, below the working folder."""
    return Path(shutil.copytree(book_of_one_that_ran, "small-book"))


def test_a_recipe_runs_to_its_report_and_says_what_was_left_out(recipe: Path) -> None:
    said: list[str] = []
    report = recipes.run_recipe("small", say=said.append)
    assert report == Path("small-book/report.md")
    assert report.read_text() == "0 runs; left out: runs --json.\n"
    assert "left out: there is no a-program-that-nobody-has here" in said
    assert Path("small-book/full/large.yaml").is_file()
    assert recipes.answers_of(Path("small-book"))["runs"] == []


@pytest.mark.usefixtures("ran")
def test_steps_that_are_done_are_not_done_again() -> None:
    said: list[str] = []
    recipes.run_recipe("small", say=said.append)
    assert [line for line in said if line.startswith("[")] == [
        "[3/4] tunebook runs --json"  # which may be there by now
    ]
    recipes.run_recipe("small", fresh=True)
    assert Path("small-book-2/report.md").is_file()


def test_a_step_that_ends_otherwise_stops_the_recipe_and_says_where(recipe: Path) -> None:
    (recipe / "recipe.yaml").write_text(STEPS.replace("exit_code: 2", "exit_code: 0"))
    with pytest.raises(RunEnded, match=r"`tunebook plan r.yaml --json` ended with 2, not 0"):
        recipes.run_recipe("small")
    assert not Path("small-book/report.md").exists()
    (recipe / "recipe.yaml").write_text(STEPS)
    said: list[str] = []
    recipes.run_recipe("small", say=said.append)
    assert not any("data stats" in line for line in said)


def test_a_copy_that_was_broken_off_is_made_again(ran: Path) -> None:
    (ran / "rows.jsonl").unlink()
    answers = ran / ".tunebook/recipe/answers"
    for path in answers.iterdir():
        path.unlink()
    answers.rmdir()
    (ran / ".tunebook/recipe/done.json").unlink()
    (ran / "report.md").unlink()
    recipes.run_recipe("small")
    assert (ran / "report.md").is_file()


@pytest.mark.parametrize("n_written", [0, 1, 2, 3])
def test_a_recipe_whose_book_did_not_fit_on_the_disk_begins_once_there_is_room(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, n_written: int
) -> None:
    real, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > n_written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    found = recipes.find_recipe("small")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="the disk is full"):
            recipes._book_for(found, Path("mine"), False)
    recipes._book_for(found, Path("mine"), False)
    assert Path("mine/tunebook.yaml").is_file()
    assert Path("mine/rows.jsonl").is_file()


def test_a_folder_that_is_no_book_of_the_recipe_is_left_alone(recipe: Path) -> None:
    other = Path("mine")
    other.mkdir()
    (other / "kept").write_text("x")
    with pytest.raises(BookError, match="is no book of the recipe small"):
        recipes.run_recipe("small", other)
    assert [path.name for path in other.iterdir()] == ["kept"]


def test_a_training_that_was_broken_off_is_resumed_and_one_that_ended_is_not_trained_again(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "r.yaml"]
    assert recipes._going_on(ran, words) == words
    RunFolder(ran, "r").path.mkdir(parents=True)
    monkeypatch.setattr(RunFolder, "started", lambda self: True)
    monkeypatch.setattr(recipes, "current_state", lambda run: "paused")
    assert recipes._going_on(ran, words) == ["resume", "r"]
    monkeypatch.setattr(recipes, "current_state", lambda run: "finished")
    assert recipes._going_on(ran, words) == []


def test_what_would_end_the_recipe_goes_to_its_step_which_saves_what_it_has() -> None:
    saves = (
        "import signal, sys, time\n"
        "def save(*_):\n    time.sleep(0.6)\n    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, save)\nprint('ready', flush=True)\ntime.sleep(30)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", saves], stdout=subprocess.PIPE, process_group=0
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        assert recipes._wait(process) == 130


def test_a_recipe_that_is_stopped_says_how_it_goes_on(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "_wait", lambda process: process.wait() * 0 + 130)
    Path("small-book").mkdir()
    with pytest.raises(RunEnded, match="`tunebook recipes run small --book small-book-2` goes on"):
        recipes.run_recipe("small", fresh=True)


def test_a_damaged_mark_of_what_is_done_is_one_sentence(ran: Path) -> None:
    (ran / ".tunebook/recipe/done.json").write_text("{")
    with pytest.raises(BookError, match=r"done\.json cannot be read .* `--fresh`"):
        recipes.run_recipe("small")


@pytest.mark.usefixtures("ran")
def test_an_answer_that_the_report_misses_is_an_error_and_not_a_gap(recipe: Path) -> None:
    (recipe / "report.md").write_text("{{ judged.score }}")
    with pytest.raises(RunFileError, match=r"report\.md.*judged"):
        recipes.run_recipe("small")
    (recipe / "report.md").write_text("{{ none | bytes }}")
    with pytest.raises(RunFileError, match=r"report\.md: an answer is not of the kind"):
        recipes.run_recipe("small")


def test_a_recipe_nobody_wrote_is_named_with_those_there_are(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"there is no recipe 'larg'; there are small"):
        recipes.find_recipe("larg")
    for name in ("../small", "small/../small", "", "."):
        with pytest.raises(UsageError):
            recipes.find_recipe(name)
    (recipe / "recipe.yaml").write_text(STEPS.replace("minutes: 1", "minutes: soon"))
    with pytest.raises(RunFileError, match=r"recipe\.yaml:3: `minutes`"):
        recipes.find_recipe("small")
    (recipe / "recipe.yaml").write_text(
        STEPS.replace("data stats rows.jsonl --json", "train r.yaml")
    )
    with pytest.raises(RunFileError, match="ask `runs --json` of trainings"):
        recipes.find_recipe("small")


def test_the_recipes_of_the_package_are_listed_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tunebook(tmp_path, "recipes")
    assert listed.returncode == 0
    assert "cosmosage" in listed.stdout
    assert main(["recipes", "--json"]) == 0
    for one in json.loads(capsys.readouterr().out):
        assert main(["recipes", "show", one["name"]]) == 0
        shown = capsys.readouterr().out
        assert all(f"tunebook {step['run']}" in shown for step in one["steps"])
