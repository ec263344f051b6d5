"""A command that is printed to be pasted does with a name of any kind what it says."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tunebook.cli.main import main

ODD = "a b; touch $(x) 'y'"


def test_the_folder_of_a_new_book_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", ODD]) == 0
    (line,) = (one for one in capsys.readouterr().err.splitlines() if one.startswith("next: "))
    assert shlex.split(line)[:4] == ["next:", "cd", ODD, "&&"]


def test_a_converted_run_file_is_planned_by_its_quoted_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("axolotl.yml").write_text(
        "base_model: tunebook/tiny\ndatasets:\n  - {path: rows.jsonl, type: alpaca}\n"
        "num_epochs: 1\nmicro_batch_size: 1\nlearning_rate: 0.001\n"
    )
    Path("rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    assert main(["convert", "axolotl.yml", "-o", f"{ODD}.yaml"]) == 0
    said = capsys.readouterr().err
    assert shlex.split(said[said.index("`") + 1 : said.rindex("`")]) == [
        "tunebook",
        "plan",
        f"{ODD}.yaml",
    ]
