"""A row of the index that is not of the kinds of a summary is read again from its run.

The fingerprints fit, as in a stranger's book: nothing but the values tells that another wrote it.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from made_runs import make_run
from tunebook.book.index import _decode, run_rows, run_summaries
from tunebook.book.index_checks import MOST_LEVELS
from tunebook.book.summary import Measured
from tunebook.cli.main import main
from tunebook.errors import MALFORMED
from tunebook.pages.table import json_table
from tunebook.records import RunSummary


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "null": None,
    "list": [1],
    "lists": [[1, 2, 3]],
    "nulls": [None],
    "names": [{"a": 1}],
    "object": {"a": 1},
    "objects": {"a": {"b": [1]}},
    "number": 7,
    "fraction": 0.5,
    "negative": -3,
    "huge": 1e308,
    "true": True,
    "text": "x",
    "empty": "",
    "word": "NaN",
    "deep": nested(900),
    "deep names": {"train.max_steps": nested(900)},
}
FIELDS = [
    *(("summary", field.name) for field in dataclasses.fields(RunSummary)),
    *((None, field.name) for field in dataclasses.fields(Measured)),
]


@pytest.fixture
def filled(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_run(book, "a")
    make_run(book, "b", loss=3.0)
    monkeypatch.chdir(book)
    run_summaries(book)
    return book


def kept_of(book: Path, name: str) -> dict[str, Any]:
    with sqlite3.connect(book / ".tunebook" / "index.db") as connection:
        (text,) = connection.execute("SELECT summary FROM runs WHERE name = ?", (name,)).fetchone()
    connection.close()
    return json.loads(text)


def put(book: Path, name: str, row: Any) -> None:
    with sqlite3.connect(book / ".tunebook" / "index.db") as connection:
        connection.execute("UPDATE runs SET summary = ? WHERE name = ?", (json.dumps(row), name))
    connection.close()


def changed(row: dict[str, Any], part: str | None, key: str, value: Any) -> dict[str, Any]:
    row = copy.deepcopy(row)
    (row[part] if part else row)[key] = value
    return row


def is_taken(row: Any) -> bool:
    try:
        _decode("a", json.dumps(row))
    except MALFORMED:
        return False
    return True


def break_nothing(
    book: Path, capsys: pytest.CaptureFixture[str], fields: Any, commands: tuple[list[str], ...]
) -> None:
    """Put every value in every field; those that are not taken are read again, see below."""
    whole = kept_of(book, "a")
    for part, key in fields:
        rows = [changed(whole, part, key, value) for value in VALUES.values()]
        taken = [row for row in rows if is_taken(row)]
        assert len(taken) < len(rows), key
        for row in taken:
            for command in commands:
                put(book, "a", row)
                assert main(command) == 0, (key, command, capsys.readouterr().err)
    capsys.readouterr()


def test_whatever_stands_in_a_field_the_lists_of_runs_do_not_break(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_nothing(filled, capsys, FIELDS, (["runs"], ["runs", "--json"], ["lineage"]))


@pytest.mark.slow
@pytest.mark.parametrize(("part", "key"), FIELDS, ids=[key for _, key in FIELDS])
def test_whatever_stands_in_a_field_no_command_breaks(
    filled: Path, capsys: pytest.CaptureFixture[str], part: str | None, key: str
) -> None:
    break_nothing(filled, capsys, [(part, key)], (["show", "a"], ["notebook", "build"]))


def test_a_model_without_a_name_is_drawn_once(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(filled, "a", changed(kept_of(filled, "a"), "summary", "model", ""))
    assert main(["lineage"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


BROKEN: list[tuple[str | None, str, Any]] = [
    ("summary", "tags", [{"a": 1}]),
    ("summary", "tags", "text"),
    ("summary", "verdicts", [1, None]),
    ("summary", "model", ["x"]),
    ("summary", "started", 3),
    ("summary", "hypothesis", 7),
    ("summary", "state", "odd"),
    ("summary", "step", 1.5),
    ("summary", "peak_memory_bytes", "9"),
    ("summary", "val_loss", True),
    ("summary", "not_looked_for", {"a": 1}),
    ("summary", "config", {"train.max_steps": nested(MOST_LEVELS + 2)}),
    ("summary", "config", None),
    (None, "recorded", 5),
    (None, "started", "x"),
    (None, "read", 1),
    (None, "predictions", [5]),
    (None, "sparks", [[1, 2, 3]]),
    (None, "sparks", [[1, "2"]]),
    (None, "sparks", [5]),
    (None, "summary", []),
]


@pytest.mark.parametrize(("part", "key", "value"), BROKEN)
def test_a_row_of_wrong_kinds_is_read_again_from_its_run(
    filled: Path, part: str | None, key: str, value: Any
) -> None:
    expected, whole = json_table(run_summaries(filled)), kept_of(filled, "a")
    put(filled, "a", changed(whole, part, key, value))
    assert json_table(run_summaries(filled)) == expected
    assert kept_of(filled, "a") == whole


def test_what_tunebook_writes_there_is_taken_as_it_stands(filled: Path) -> None:
    whole = kept_of(filled, "a")
    numbers = {"val_loss": "NaN", "perplexity": "Infinity", "judge": 3, "seconds": 4}
    setting = nested(MOST_LEVELS)
    row = changed(whole, None, "summary", {**whole["summary"], **numbers, "note": "an odd note"})
    row["summary"]["config"] |= {"deepest": [setting, {}], "none": None, "columns": {"a": "b"}}
    row["sparks"] = [[1, 2.5], [0.25, 3]]
    put(filled, "a", row)
    summary, measured = run_rows(filled)["a"]
    assert (summary.note, summary.judge, summary.perplexity) == ("an odd note", 3, float("inf"))
    assert summary.config["columns"] == {"a": "b"}
    assert measured.sparks == ((1, 2.5), (0.25, 3))
    assert kept_of(filled, "a") == row


@pytest.mark.parametrize("kind", [RunSummary, Measured])
def test_every_field_is_looked_at(kind: type[Any]) -> None:
    from tunebook.book.index_checks import checks_of

    names = {field.name for field in dataclasses.fields(kind)} - {"summary"}
    assert {name for name, _ in checks_of(kind)} == names
