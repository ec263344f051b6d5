"""A table that a spreadsheet opens starts no program: what is text stays text."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_evaluations import make_answers
from made_runs import make_run
from tunebook.pages.spreadsheet import write_csv
from tunebook.pages.table import csv_table
from tunebook.records import RunSummary
from tunebook.web.app import make_app

EVIL = "=cmd|'/c calc'!A1"


def only(table: str) -> list[str]:
    _, row = csv.reader(io.StringIO(table))
    return row


@pytest.mark.parametrize(
    "text", [EVIL, "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\n=1", "-", "-1 to 2"]
)
def test_text_that_begins_a_formula_is_quoted(text: str) -> None:
    assert only(write_csv(["a"], [[text]])) == [f"'{text}"]


def test_a_line_end_within_a_cell_begins_no_row() -> None:
    assert only(write_csv(["a"], [[f"x\r{EVIL}"]])) == [f"x\n{EVIL}"]
    assert only(write_csv(["a"], [[f"\r\n{EVIL}"]])) == [f"'\n{EVIL}"]


@pytest.mark.parametrize("value", [-1.5, -3, "-1.5", "+2e-05", "-1,234", "", "a=b", "NaN", None])
def test_numbers_and_other_text_stay_as_they_are(value: object) -> None:
    assert only(write_csv(["a", "b"], [[value, 1]]))[0] == ("" if value is None else str(value))


def test_the_table_of_runs_is_no_formula() -> None:
    run = RunSummary("a", "finished", EVIL, "sft", "lora", config={"data": "@x", "lr": -0.5})
    assert only(csv_table([run], ["name", "model", "data", "lr"])) == [
        "a",
        f"'{EVIL}",
        "'@x",
        "-0.5",
    ]


def test_answers_side_by_side_are_no_formula(book: Path) -> None:
    for name in ("one", "two"):
        make_answers(make_run(book, name), [EVIL])
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    row = only(client.get("/side.csv?run=one&run=two").text)
    assert row.count(f"'{EVIL}") == 2
    assert EVIL not in row
