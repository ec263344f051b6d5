"""A page of somebody else's is read in time that grows with its length, and row by row."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from tunebook.imports.found import Found
from tunebook.imports.read import read_file

COLUMNS = ("run", "seed", "batch", "rank", "val_loss", "ppl", "time", "warmup")
MANY = 200_000


def page(*, after: str = "", **cells: str) -> str:
    row = {"run": "a", "seed": "1", "batch": "2", "val_loss": "1.0", **cells}
    told = [" | ".join(row.get(column, "") for column in COLUMNS)]
    second = " | ".join({"run": "b", "val_loss": "2.0"}.get(column, "") for column in COLUMNS)
    lines = [" | ".join(COLUMNS), "|".join(["---"] * len(COLUMNS)), *told, second]
    return "".join(f"| {line} |\n" for line in lines) + "\n" + after


def read(tmp_path: Path, text: str) -> Found:
    path = tmp_path / "page.md"
    path.write_text(text)
    return read_file(path)


BEFORE = ("* a", "*", "* `a`", "Model Name:", "Model Name: a (355M)", "Model Name: a", "",
          "Model Name: a (355M)\nPretrained score:", "Model Name: a (355M)\nPretrained score: 1",
          "* a\nA", "* a\nA:", "* a\n---", "* a\ncompleted in ", "* a\ncompleted in 1 hour on ",
          "#", "**", "|", "| ---")  # fmt: skip
LETTERS = (" ", "(", "a(", "*", "`", ":", "-", "1", ".", "1.", "a", "a ", "|", "| ", "\\|", "\t ",
           "completed in 1")  # fmt: skip


@pytest.mark.parametrize("before", BEFORE)
def test_a_long_line_takes_no_longer_than_its_letters_ask_for(tmp_path: Path, before: str) -> None:
    for letters in LETTERS:
        for end in ("x", "!", ")"):
            long = before + letters * (MANY // len(letters)) + end + "\n"
            began = time.process_time()
            found = read(tmp_path, page(after=long))
            assert time.process_time() - began < 1.5, (before, letters, end)
            assert len(found.runs) == 2


@pytest.mark.parametrize("column", COLUMNS[1:])
def test_a_long_cell_is_not_read_and_named_with_its_line(tmp_path: Path, column: str) -> None:
    for begins in ("1", "gpu (", ".", "a", "-"):
        for letters in (" ", "1", "(", ".", "a", "-", "1."):
            cell = begins + letters * (MANY // len(letters)) + "!"
            began = time.process_time()
            found = read(tmp_path, page(**{column: cell}))
            assert time.process_time() - began < 1.5, (begins, letters)
            said = [line for line in found.not_read if line.startswith(f"line 3, {column} of a: ")]
            assert len(said) == 1
            assert len(said[0]) < 120


@pytest.mark.parametrize("ends", ["Model Name: " + "a(" * 1990, "* a" + " " * 3900 + "x"])
def test_thousands_of_such_lines_do_not_add_up(tmp_path: Path, ends: str) -> None:
    began = time.process_time()
    read(tmp_path, page(after=(ends + "\n") * 1000))
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("seed", "nan"),
        ("seed", "inf"),
        ("seed", "1e400"),
        ("seed", "1.5"),
        ("batch", "1e300"),
        ("rank", "nan"),
        ("ppl", "0"),
        ("ppl", "-3"),
        ("time", "1.2.3"),
        ("time", "1.2.3 min"),
        ("time", ". min"),
        ("time", "9" * 400 + " min"),
        ("warmup", "inf"),
        ("warmup", "nan"),
    ],
)
def test_a_cell_that_cannot_be_is_not_read_and_the_rest_of_the_page_is(
    tmp_path: Path, column: str, cell: str
) -> None:
    found = read(tmp_path, page(**{column: cell}))
    assert [run.name for run in found.runs] == ["a", "b"]
    assert [run.reported["val_loss"] for run in found.runs] == [1.0, 2.0]
    (said,) = found.not_read
    assert said.startswith(f"line 3, {column} of a: {cell[:60]}")
    assert found.runs[0].other[column] == cell


def test_a_loss_that_was_nan_is_told_as_one(tmp_path: Path) -> None:
    found = read(tmp_path, page(val_loss="nan", ppl="inf"))
    assert math.isnan(found.runs[0].reported["val_loss"])
    assert found.runs[0].reported["perplexity"] == math.inf
    assert not found.not_read


def test_times_and_scores_that_are_no_numbers_are_the_authors_words(tmp_path: Path) -> None:
    words = "Model Name: x (355M)\nPretrained score: 1.2.3\n\n* a\ncompleted in 1.2.3 seconds\n"
    found = read(tmp_path, page(after=words))
    assert "seconds" not in found.runs[0].reported
    assert "1.2.3 seconds" in found.runs[0].words
    assert "Pretrained score: 1.2.3" in found.words


def test_settings_of_a_trainer_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    best = "9" * 5000
    path.write_text(
        '{"log_history": [{"step": 1, "loss": 1}], "seed": Infinity, "learning_rate": NaN, '
        '"train_batch_size": true, "weight_decay": 0.1, '
        f'"best_model_checkpoint": "checkpoint-{best}"}}'
    )
    (run,) = read_file(path).runs
    assert run.settings == {"train.weight_decay": 0.1}
