"""The index may come with a stranger's book: whatever is not what tunebook writes is made anew."""

from __future__ import annotations

import os
import sqlite3
import struct
from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.book.index import Index, rebuild, run_summaries
from tunebook.book.index_file import INDEX_VERSION
from tunebook.book.places import kept_steps
from tunebook.cli.main import main
from tunebook.errors import BookError, StorageError
from tunebook.pages.table import json_table

pytestmark = pytest.mark.timeout(60)

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
TABLE = "CREATE TABLE runs (name TEXT PRIMARY KEY, fingerprint TEXT, summary TEXT)"


@pytest.fixture
def filled(book: Path) -> Path:
    make_run(book, "a")
    make_run(book, "b", loss=3.0)
    run_summaries(book)
    return book


def index_of(book: Path) -> Path:
    return book / ".tunebook" / "index.db"


def make_index(book: Path, *statements: str) -> None:
    """Put another database in the place of the index."""
    for path in (book / ".tunebook").glob("index.db*"):
        path.unlink()
    connection = sqlite3.connect(index_of(book))
    for statement in statements:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={INDEX_VERSION}")
    connection.commit()
    connection.close()


def names_in(book: Path) -> list[str]:
    with sqlite3.connect(index_of(book)) as connection:
        found = [name for (name,) in connection.execute("SELECT name FROM runs ORDER BY name")]
    connection.close()
    return found


def test_a_row_that_is_named_as_a_way_out_deletes_nothing(filled: Path, tmp_path: Path) -> None:
    (filled / ".tunebook" / "steps").mkdir(exist_ok=True)
    precious = tmp_path / "precious.npz"
    precious.write_text("x")
    with sqlite3.connect(index_of(filled)) as connection:
        row = connection.execute("SELECT fingerprint, summary FROM runs").fetchone()
        for name in ("../../../precious", str(precious.with_suffix("")), "..", "a/../../x"):
            connection.execute("INSERT INTO runs VALUES (?, ?, ?)", (name, *row))
    connection.close()
    assert [run.name for run in run_summaries(filled)] == ["a", "b"]
    assert precious.exists()
    assert names_in(filled) == ["a", "b"]


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".hidden", "a\0b", "/a", "a" * 101])
def test_only_a_run_has_a_copy_of_its_steps(book: Path, name: str) -> None:
    with pytest.raises(BookError, match="cannot name a run"):
        kept_steps(book, name)


def test_a_copy_of_steps_behind_a_link_stays(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "b.npz").write_text("mine")
    (filled / ".tunebook" / "steps").symlink_to(tmp_path / "far")
    os.rename(filled / "runs" / "b", tmp_path / "b")
    assert [run.name for run in run_summaries(filled)] == ["a"]
    assert (tmp_path / "far" / "b.npz").read_text() == "mine"


HOSTILE = {
    "a view without an end": [
        f"CREATE VIEW runs AS {ENDLESS} i name, 1 fingerprint, 1 summary FROM n"
    ],
    "a view that finds nothing for ever": [
        f"CREATE VIEW runs AS {ENDLESS} i name, 1 fingerprint, 1 summary FROM n WHERE i < 0"
    ],
    "a view of a table": [
        "CREATE TABLE t (name, fingerprint, summary)",
        "CREATE VIEW runs AS SELECT * FROM t",
    ],
    "a trigger": [
        TABLE,
        f"CREATE TRIGGER t BEFORE INSERT ON runs BEGIN {ENDLESS} i FROM n WHERE i < 0; END",
    ],
    "a column that is computed": [
        "CREATE TABLE runs (name TEXT PRIMARY KEY, fingerprint TEXT, summary TEXT AS "
        "(printf('%.*c', 1000, 'x')))",
        "INSERT INTO runs (name, fingerprint) VALUES ('a', 'x')",
    ],
    "bytes that are no text": [TABLE, "INSERT INTO runs VALUES (CAST(x'ff' AS TEXT), 'x', 'y')"],
    "values of other kinds": [TABLE, "INSERT INTO runs VALUES (x'00', 1, 2)"],
    "nulls": [TABLE, "INSERT INTO runs VALUES (NULL, 'x', '[]')"],
    "a name with a zero": [TABLE, "INSERT INTO runs VALUES ('a' || char(0) || 'b', 'x', '{}')"],
    "a long name": [TABLE, "INSERT INTO runs VALUES (hex(zeroblob(5000)), 'x', '{}')"],
    "a table of other columns": ["CREATE TABLE runs (other)"],
    "no table": [],
}


@pytest.mark.parametrize("statements", HOSTILE.values(), ids=HOSTILE)
def test_an_index_that_is_none_of_ours_is_made_anew(filled: Path, statements: list[str]) -> None:
    expected = json_table(run_summaries(filled))
    make_index(filled, *statements)
    assert json_table(run_summaries(filled)) == expected
    assert names_in(filled) == ["a", "b"]
    index = Index(filled)
    assert index.refresh() == []  # from then on it serves again


def test_what_is_kept_under_the_name_of_another_run_is_read_again(filled: Path) -> None:
    expected = json_table(run_summaries(filled))
    with sqlite3.connect(index_of(filled)) as connection:
        connection.execute(
            "UPDATE runs SET summary = (SELECT summary FROM runs WHERE name = 'b') WHERE name = 'a'"
        )
    connection.close()
    assert json_table(run_summaries(filled)) == expected


def test_a_journal_that_names_another_file_deletes_none(filled: Path, tmp_path: Path) -> None:
    expected = json_table(run_summaries(filled))
    precious = tmp_path / "precious"
    precious.write_text("x" * 100)
    # As SQLite writes it: a header, no page, and at the end the name of a journal above this one.
    magic, name = bytes.fromhex("d9d505f920a163d7"), str(precious).encode()
    header = magic + struct.pack(">IIIII", 0, 0, 4, 512, 4096)
    tail = struct.pack(">I", 2**30 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name))
    index_of(filled).with_name("index.db-journal").write_bytes(
        header.ljust(512, b"\0") + tail + magic
    )
    assert json_table(run_summaries(filled)) == expected
    assert precious.read_text() == "x" * 100


@pytest.mark.parametrize("ending", ["", "-journal", "-wal", "-shm"])
def test_links_in_the_place_of_the_index_lead_nowhere(
    filled: Path, tmp_path: Path, ending: str
) -> None:
    expected = json_table(run_summaries(filled))
    far = tmp_path / "far.db"
    connection = sqlite3.connect(far)
    connection.execute("CREATE TABLE runs (mine)")
    connection.commit()
    connection.close()
    before = far.read_bytes()
    path = index_of(filled).with_name(f"index.db{ending}")
    path.unlink(missing_ok=True)
    path.symlink_to(far)
    for _ in range(2):
        assert json_table(run_summaries(filled)) == expected
    assert far.read_bytes() == before


@pytest.mark.parametrize("ending", ["", "-journal", "-wal", "-shm"])
def test_a_pipe_in_the_place_of_the_index_does_not_hang(filled: Path, ending: str) -> None:
    expected = json_table(run_summaries(filled))
    path = index_of(filled).with_name(f"index.db{ending}")
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert json_table(run_summaries(filled)) == expected


def test_an_index_behind_a_link_is_not_used(filled: Path, tmp_path: Path) -> None:
    expected = json_table(run_summaries(filled))
    os.rename(filled / ".tunebook", tmp_path / "far")
    (tmp_path / "far" / "index.db").write_bytes(b"mine")
    (filled / ".tunebook").symlink_to(tmp_path / "far")
    assert json_table(run_summaries(filled)) == expected
    assert (tmp_path / "far" / "index.db").read_bytes() == b"mine"
    with pytest.raises(StorageError, match=r"\.tunebook is a link"):
        rebuild(filled)


# --- what `tunebook reindex` says ---------------------------------------------------------------


def reindexed(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.chdir(book)
    assert main(["reindex"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "the book is whole without it" in err
    return err


def test_an_index_that_is_a_folder_is_told(
    filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index_of(filled).unlink()
    index_of(filled).mkdir()
    assert "cannot be written: " in reindexed(filled, monkeypatch, capsys)


def test_a_file_where_the_index_has_its_folder_is_told(
    filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (filled / ".tunebook").iterdir():
        path.unlink()
    (filled / ".tunebook").rmdir()
    (filled / ".tunebook").write_text("a file")
    words = reindexed(filled, monkeypatch, capsys)
    assert f"{filled / '.tunebook'} is a file; move it away" in words
    assert "full" not in words


def test_a_garbled_index_that_cannot_be_deleted_is_told(
    filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index_of(filled).write_bytes(b"garbled" * 1000)
    # What a read-only volume says; the suite may be run by a user whom no permission stops.
    refuse = OSError(30, "Read-only file system")

    def unlink(_path: Path, missing_ok: bool = False) -> None:
        raise refuse

    monkeypatch.setattr(Path, "unlink", unlink)
    words = reindexed(filled, monkeypatch, capsys)
    assert "it is broken and cannot be deleted (Read-only file system)" in words


def test_an_empty_book_is_indexed(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    assert main(["reindex"]) == 0
    assert capsys.readouterr().out == "0 runs indexed\n"
    assert names_in(book) == []
