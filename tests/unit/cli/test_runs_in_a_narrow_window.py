"""`tunebook runs` in a terminal: whole columns, the most needed first, the rest named."""

from __future__ import annotations

import pytest

from tunebook.cli.runs import _print_rich
from tunebook.pages.table import DEFAULT_COLUMNS
from tunebook.records import RunSummary
from tunebook.workflows.runs import RunTable

ROW = RunSummary(
    "sage-text",
    "finished",
    "openai-community/gpt2-medium",
    "sft",
    "relora",
    train_loss=0.639,
    val_loss=0.674,
    perplexity=1.962,
    verdicts=("bad_example", "forgetting"),
    outcome="2 of 2 held",
)
TABLE = RunTable((ROW,), tuple(DEFAULT_COLUMNS), {ROW.name: ROW})


def shown(
    table: RunTable,
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fixed: bool = False,
) -> tuple[str, str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    _print_rich(table, fixed)
    return capsys.readouterr()


def test_a_narrow_window_shows_whole_columns_and_names_those_it_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, error = shown(TABLE, 80, monkeypatch, capsys)
    assert "…" not in out
    for whole in ("sage-text", "finished", "0.674", "relora", "bad_example"):
        assert whole in out
    assert "openai-community" not in out
    assert error.startswith("not shown: model, ")


def test_a_wide_window_shows_every_column_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, error = shown(TABLE, 200, monkeypatch, capsys)
    assert "openai-community/gpt2-medium" in out
    assert error == ""


def test_columns_that_were_asked_for_are_all_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = RunTable((ROW,), ("name", "model", "outcome"), {ROW.name: ROW})
    out, error = shown(table, 30, monkeypatch, capsys, fixed=True)
    assert "model" in out
    assert "outcome" in out
    assert error == ""
