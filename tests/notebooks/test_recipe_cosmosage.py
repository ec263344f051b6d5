"""Notebook 000 from nothing to its report; its full run files fit the card that its author had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunebook.cli.main import main
from tunebook.workflows.recipes import answers_of, find_recipe, run_recipe


@pytest.mark.slow
def test_the_twin_runs_to_a_report_that_answers_its_notebook(tmp_path: Path) -> None:
    text = run_recipe("cosmosage", tmp_path / "book").read_text(encoding="utf-8")
    answers = answers_of(tmp_path / "book")
    assert answers["cleaned"]["dropped"] == {
        "character classes": 24,
        "exact duplicate": 19,
        "near duplicate": 12,
    }
    assert "So the rate of v3 was too high" in text
    assert "- **lr_too_high**" in text
    assert "**cannot_explain**: train.weight_decay 0.1 -> 0.0 cannot explain a difference" in text
    assert "**overfitting**: the held-out loss was lowest at step" in text
    read = text.partition("## Has it read the papers?")[2].partition("##")[0]
    assert "(different, difference [" in read
    assert "It was **narrowed**" in text
    assert (tmp_path / "book/runs/minichat_v12/curve.svg").is_file()


@pytest.mark.slow  # two rehearsals of 32 layers each
@pytest.mark.parametrize(
    ("file", "method", "memory"), [("text", "relora", (35, 48)), ("sft", "qlora", (30, 48))]
)
def test_the_full_run_files_fit_an_a6000(
    file: str, method: str, memory: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = find_recipe("cosmosage").folder / "full" / f"{file}.yaml"
    words = ["plan", str(path), "--device", "a6000", "--accept", "disk-too-small", "--json"]
    assert main(words) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["method"] == method
    assert plan["parameters"]["total"] == 7_241_732_096
    least, most = memory
    assert least < plan["memory"]["resident_bytes"] / 2**30 < most
    assert plan["tokens"] is None  # nothing is made up where there are no rows
    assert [one["name"] for one in plan["checks"] if one["level"] == "warn"] == [
        "weights-not-checked"
    ]
