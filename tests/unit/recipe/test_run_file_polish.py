"""What is said of a run file is short, says where it is, and can be typed where it is said."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tunebook.book.places import create_book
from tunebook.cli.main import main
from tunebook.errors import RunFileError
from tunebook.recipe.complain import nearest_key
from tunebook.recipe.load import load_run_file
from tunebook.workflows.train import load_recipe

HEAD = "name: run_1\nmodel: tunebook/tiny\ndata:\n  - path: x.json\n"


def complaint(folder: Path, more: str) -> str:
    path = folder / "run.yaml"
    path.write_text(HEAD + more, encoding="utf-8")
    with pytest.raises(RunFileError) as refused:
        load_recipe(path, (), folder)
    return str(refused.value).removeprefix(str(path))


@pytest.mark.parametrize("number", ["1.0e+99", "1.0e+16"])
def test_no_number_is_advised_that_nobody_would_write(tmp_path: Path, number: str) -> None:
    said = complaint(tmp_path, f"train: {{max_steps: {number}}}\n")
    assert said.startswith(":5: `train.max_steps` must be a whole number, not ")
    assert len(said) < 100
    assert "000" not in said


def test_a_whole_number_that_is_written_as_another_is_still_advised(tmp_path: Path) -> None:
    assert complaint(tmp_path, "train: {max_steps: 3.0}\n").endswith("not 3.0; write 3")


@pytest.mark.parametrize(
    ("prediction", "said"),
    [
        ("val_los < 1.5", "names no metric `val_los`; did you mean `val_loss`?"),
        ("val_loss < train_los", "compares with an unknown `train_los`; did you mean `train_loss`"),
        ("val_loss < run_2.val_los", "an unknown `run_2.val_los`; did you mean `run_2.val_loss`?"),
        ("zzz < 1.5", "names no metric `zzz`: write `METRIC < NUMBER`"),
        ("no overfiting", "did you mean"),
        ("less loss", "cannot read the prediction `less loss`: write"),
    ],
)
def test_a_prediction_that_cannot_be_read_is_named_with_file_and_line(
    tmp_path: Path, prediction: str, said: str
) -> None:
    shown = complaint(tmp_path, f"notebook:\n  predict:\n    - val_loss < 3\n    - {prediction}\n")
    assert shown.startswith(":8: ")
    assert said in shown
    assert complaint(tmp_path, f"notebook: {{predict: ['{prediction}']}}\n").startswith(":5: ")


def test_only_keys_are_suggested_that_can_stand_there() -> None:
    assert nearest_key("samples") == "did you mean `sample`, a key of each source below `data`?"
    assert nearest_key("sample") == "`sample` is a key of each source below `data`"
    assert nearest_key("per_game") == "`chess.per_game` is a key of each source below `data`"
    assert nearest_key("data.1.samples") == "did you mean `data.1.sample`?"
    assert nearest_key("data.1.per_game") == "did you mean `data.1.chess.per_game`?"
    assert nearest_key("learning_rate") == "did you mean `train.learning_rate`?"


def test_a_name_that_no_finding_has_is_answered_in_a_line(tmp_path: Path) -> None:
    said = complaint(tmp_path, "accept: [nonsense]\n")
    assert len(said) < 250
    assert re.search(r"the nearest are [a-z-]+(, [a-z-]+)+; all stand in docs/plan\.md", said)


def test_a_folder_and_a_pipe_are_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = create_book(tmp_path / "book")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").mkdir()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "p.yaml")
    for name in ("a.yaml", "folder", "./folder"):
        with pytest.raises(RunFileError, match=r"is a folder; name the run file in it"):
            load_recipe(name, (), book)
    way_out = "is a pipe, not a file; write it to a file and name that"
    for read in (lambda path: load_recipe(path, (), book), load_run_file):
        with pytest.raises(RunFileError, match=way_out):
            read(tmp_path / "p.yaml")
    with pytest.raises(RunFileError, match="there is no such file"):
        load_recipe("b.yaml", (), book)


@pytest.mark.parametrize("verb", ["plan", "train", "sweep", "new"])
def test_a_pipe_in_place_of_a_run_file_is_refused_by_every_verb_with_a_way_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
) -> None:
    monkeypatch.chdir(create_book(tmp_path / "book"))
    os.mkfifo("p.yaml")
    assert main([verb, *(["child", "--from"] if verb == "new" else []), "p.yaml"]) != 0
    said = capsys.readouterr().err
    assert "p.yaml" in said
    assert "it is a pipe, not a file; write it to a file and name that" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ui", "--port", "abc"], "'--port': 'abc' is not a whole number from 0 to 65535"),
        (["judge", "x", "--n", "abc"], "'--n': 'abc' is not a whole number of at least 1"),
        (["judge", "x", "--rate", "abc"], "'--rate': 'abc' is not a number"),
        (["judge", "x", "--concurrency", "1.5"], "'--concurrency': '1.5' is not a whole number"),
    ],
)
def test_what_is_no_number_is_said_in_our_words(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert f"{said} (`tunebook " in shown
    assert not any(word in shown for word in ("integer", "float", "valid range"))
