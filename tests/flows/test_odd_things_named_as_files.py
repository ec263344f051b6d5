"""Pipes, devices, looping links and endless lines given as files: one sentence, and at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunebook.book.places import create_book
from tunebook.cli.main import main
from tunebook.imports import read
from tunebook.imports.markdown_table import has_table
from tunebook.imports.read import read_file


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book with things in it that have names of files."""
    book = create_book(tmp_path / "book")
    os.mkfifo(book / "pipe.yaml")
    os.mkfifo(book / "pipe.jsonl")
    (book / "zero.csv").symlink_to("/dev/zero")
    (book / "loop.jsonl").symlink_to("loop2.jsonl")
    (book / "loop2.jsonl").symlink_to("loop.jsonl")
    (book / "gone.jsonl").symlink_to("nowhere.jsonl")
    monkeypatch.chdir(book)
    return book


@pytest.mark.timeout(60)
@pytest.mark.parametrize("verb", ["import", "data show", "convert"])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("pipe.jsonl", "is a pipe"),
        ("zero.csv", "is a device"),
        ("/dev/null", "is a device"),
        ("loop.jsonl", "is a link that leads back to itself"),
        ("gone.jsonl", "is a link to nowhere.jsonl, where nothing is"),
    ],
)
def test_what_is_no_file_is_called_what_it_is(
    odd: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str, what: str
) -> None:
    assert main([*verb.split(), name]) == 2
    said = capsys.readouterr().err
    assert f"{name} {what}" in said
    assert "Traceback" not in said


@pytest.mark.timeout(60)
@pytest.mark.parametrize("verb", ["plan", "train", "convert", "sweep"])
def test_a_pipe_is_no_run_file(odd: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main([verb, "pipe.yaml"]) == 2
    assert "pipe" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../m/nothere", "./nothere", "nothere", "a/b/c", "no.yaml"])
def test_a_model_that_is_not_there_is_not_called_a_run_file(
    odd: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["convert", name, "-o", "x"]) == 2
    said = capsys.readouterr().err
    assert f"there is nothing at {name}, neither a run file nor the folder of a model" in said


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "after",
    [" " * 60_000 + "x", "|-" * 30_000 + "x", "- " * 30_000 + "x", "|" * 60_000, "-" * 60_000],
)
def test_a_long_line_under_a_row_is_read_in_a_moment(after: str) -> None:
    assert not has_table(f"| a |\n{after}\n")


@pytest.mark.timeout(30)
def test_many_brackets_in_a_cell_are_read_in_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "t.md"
    path.write_text(f"|name|model|loss|\n|-|-|-|\n|a|{'(' * 200_000}|1|\n")
    assert [run.name for run in read_file(path).runs] == ["a"]


@pytest.mark.parametrize(
    "rule", ["|-|-|", "-|-", "-|", "|:-:|--:|", " |---| --- ", "|--:-|", "| |-|", "|-||", "-", "||"]
)
def test_a_rule_is_dashes_between_bars(rule: str) -> None:
    assert has_table(f"| a |\n{rule}\n") == (rule not in ("|--:-|", "| |-|", "|-||", "-", "||"))


def test_a_page_of_tables_has_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.md"
    path.write_text("|name|loss|\n|-|-|\n|a|1|\n")
    assert len(read_file(path).runs) == 1
    monkeypatch.setattr(read, "_MOST_PAGE", 10)
    with pytest.raises(Exception, match="a page of more than 16 MiB"):
        read_file(path)
