"""A project of Trackio is a SQLite file of somebody else's: it is read as data, and never waits."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from tunebook.errors import DataError
from tunebook.imports import logs
from tunebook.imports.read import read_file

pytestmark = pytest.mark.timeout(60)

METRICS = "CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_name, step, metrics)"
CONFIGS = "CREATE TABLE configs (run_name, config)"
ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i id, 'r' run_name"
)


def project(folder: Path, *statements: str) -> Path:
    path = folder / "project.db"
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


def row(values: object, run: str = "'r'") -> str:
    return f"INSERT INTO metrics VALUES (NULL, {run}, 1, {values})"


GOOD = row(f"'{json.dumps({'loss': 2.0, 'step': 1})}'")


def test_a_project_is_read(tmp_path: Path) -> None:
    found = read_file(project(tmp_path, METRICS, CONFIGS, GOOD))
    assert [run.name for run in found.runs] == ["r"]


@pytest.mark.parametrize(
    "statements",
    [
        [f"CREATE VIEW metrics AS {ENDLESS}, i step, '{{}}' metrics FROM n", CONFIGS],
        [f"CREATE VIEW metrics AS {ENDLESS}, i step, 1 metrics FROM n WHERE i < 0", CONFIGS],
        [METRICS, GOOD, f"CREATE VIEW configs AS {ENDLESS}, '{{}}' config FROM n WHERE i < 0"],
        [METRICS.replace(" metrics)", " metrics AS (hex(zeroblob(9))))"), CONFIGS],
        [METRICS, CONFIGS, row("NULL")],
        [METRICS, CONFIGS, row("3")],
        [METRICS, CONFIGS, row("'[1]'")],
        [METRICS, CONFIGS, row("'{'")],
        [METRICS, CONFIGS, row("'{}'", run="NULL")],
        [METRICS, CONFIGS, row("CAST(x'ff' AS TEXT)")],
        [METRICS],
    ],
)
def test_what_is_no_log_is_refused_in_a_sentence(tmp_path: Path, statements: list[str]) -> None:
    with pytest.raises(DataError, match=r"project\.db"):
        read_file(project(tmp_path, *statements))


def test_settings_that_are_no_object_are_left_out(tmp_path: Path) -> None:
    odd = [f"INSERT INTO configs VALUES ('r', {value})" for value in ("3", "'[]'", "NULL")]
    for number, statement in enumerate(odd):
        (tmp_path / str(number)).mkdir()
        path = project(tmp_path / str(number), METRICS, CONFIGS, GOOD, statement)
        assert [run.name for run in read_file(path).runs] == ["r"]


def test_more_rows_than_any_log_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_MOST_ROWS", 3)
    with pytest.raises(DataError, match="more than 3 rows"):
        read_file(project(tmp_path, METRICS, CONFIGS, *[GOOD] * 4))


def test_a_query_that_goes_on_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(tmp_path, METRICS, CONFIGS, *[GOOD] * 5000)
    monkeypatch.setattr(logs, "_MOST_OPERATIONS", 20_000)
    with pytest.raises(DataError, match="interrupted"):
        read_file(path)


@pytest.mark.parametrize("ending", ["-journal", "-wal", "-shm"])
def test_a_pipe_beside_a_project_does_not_hang(tmp_path: Path, ending: str) -> None:
    path = project(tmp_path, METRICS, CONFIGS, GOOD)
    os.mkfifo(path.with_name(f"project.db{ending}"))
    with pytest.raises(DataError, match="is no file"):
        read_file(path)
