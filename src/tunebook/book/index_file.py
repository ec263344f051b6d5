"""The SQLite file of the index, which may be broken, or come with a stranger's book.

Whatever is not just what tunebook writes there is deleted and made anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tunebook.book.inside import link_below
from tunebook.book.places import is_run_name
from tunebook.book.writing import open_to_write
from tunebook.databases import SIDE_FILES, open_untrusted
from tunebook.errors import BookError, StorageError

INDEX_VERSION = 9
"""Raised when a summary gains or changes a field; an index of another version is made anew."""

_TABLE = "CREATE TABLE runs (name TEXT PRIMARY KEY, fingerprint TEXT, summary TEXT)"
# Of the file's schema; SQLite itself makes the second for the key.
_SCHEMA = [("table", "runs", _TABLE), ("index", "sqlite_autoindex_runs_1", None)]
_MOST_OPERATIONS = 200_000_000  # some seconds; a run takes about ten
_MOST_ROWS = 1_000_000
# What another process or the disk is the cause of; the file itself may be whole.
_NOT_ITS_FAULT = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,  # as locks of a network share fail
    sqlite3.SQLITE_NOLFS,
}

Row = tuple[str, str]
"""The fingerprint of a run's files, and what was read of them as JSON."""


def index_path(book: Path) -> Path:
    """Name the database, which is there once it could be written."""
    return book / ".tunebook" / "index.db"


def load_rows(book: Path) -> dict[str, Row]:
    """Read what is known of each run by name; empty where there is no index that can be used."""
    if not index_path(book).exists() or link_below(book, index_path(book)):
        return {}
    try:
        with _open(book) as connection:
            return _rows_of(connection)
    except sqlite3.Error as error:
        if not _is_usable(error):
            remove_index(book)
    except (ValueError, OSError):
        remove_index(book)
    return {}


def store_rows(book: Path, changed: Mapping[str, Row], gone: Collection[str]) -> str | None:
    """Put rows in and take others out; gives None, or in words why that could not be done."""
    path = index_path(book)
    if (link := link_below(book, path)) is not None:
        return f"{link.relative_to(book)} is a link, and the index is kept in the book only"
    try:
        path.parent.mkdir(exist_ok=True)
        try:
            _write(book, changed, gone)
        except sqlite3.Error as error:
            if _is_usable(error):
                raise
            if (why_not := remove_index(book)) is not None:
                return f"it is broken and cannot be deleted ({why_not})"
            _write(book, changed, gone)
    except sqlite3.Error as error:
        return _why_not_opened(book, path) or str(error)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _why_not_opened(book: Path, path: Path) -> str | None:
    """Give the system's words for a file that cannot be opened; SQLite's own do not say why."""
    try:
        with open_to_write(book, path, "append"):
            return None
    except BookError as error:
        return str(error)
    except OSError as error:
        return error.strerror


def remove_index(book: Path) -> str | None:
    """Delete the database and what SQLite left beside it; gives why not, in words, where it stays.

    Behind a link nothing is deleted.
    """
    path = index_path(book)
    if link_below(book, path.parent):
        return "it is behind a link"
    try:
        for ending in (*SIDE_FILES, ""):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return None


def refuse_unwritten(book: Path, why_not: str | None) -> None:
    """Raise StorageError when the index is not there, or could not be written for a reason."""
    path = index_path(book)
    if (link := link_below(book, path)) is not None:
        why_not = f"{link.relative_to(book)} is a link, and the index is kept in the book only"
        way_out = "put what it leads to in its place, or delete the link"
    elif path.parent.exists() and not path.parent.is_dir():
        why_not, way_out = f"{path.parent} is a file", "move it away"
    elif why_not is None and path.is_file():
        return
    else:
        why_not = why_not or "the disk is full or read-only"
        way_out = "free space or make it writable"
    raise StorageError(
        f"the index {path} cannot be written: {why_not}; {way_out} (the book is whole without it)"
    )


@contextmanager
def _open(book: Path) -> Iterator[sqlite3.Connection]:
    path = index_path(book)
    with open_untrusted(path, writable=True, most_operations=_MOST_OPERATIONS) as connection:
        # SQLite before 3.51.3 can corrupt a WAL that is reset while it is read.
        journal = "WAL" if sqlite3.sqlite_version_info >= (3, 51, 3) else "TRUNCATE"
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("PRAGMA synchronous=OFF")
        # The version first: another process may make the table between the two, and both at once.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        schema = connection.execute("SELECT type, name, sql FROM sqlite_master LIMIT 3").fetchall()
        if schema and schema != _SCHEMA:
            raise sqlite3.DatabaseError("it is no index of a book")
        if version != INDEX_VERSION:
            _create(connection)
        elif not schema:
            raise sqlite3.DatabaseError("it has no table")
        yield connection


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DROP TABLE IF EXISTS runs")
    connection.execute(_TABLE)
    connection.execute(f"PRAGMA user_version={INDEX_VERSION}")
    connection.execute("COMMIT")


def _rows_of(connection: sqlite3.Connection) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    found = connection.execute(f"SELECT name, fingerprint, summary FROM runs LIMIT {_MOST_ROWS}")
    for row in found:
        # A name becomes part of paths, of files that are deleted too.
        if not all(isinstance(value, str) for value in row) or not is_run_name(row[0]):
            raise ValueError("a row is none of a run")
        rows[row[0]] = row[1], row[2]
    return rows


def _write(book: Path, changed: Mapping[str, Row], gone: Collection[str]) -> None:
    rows = [(name, fingerprint, summary) for name, (fingerprint, summary) in changed.items()]
    with _open(book) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", rows)
        connection.executemany("DELETE FROM runs WHERE name = ?", [(name,) for name in gone])
        connection.execute("COMMIT")


def _is_usable(error: sqlite3.Error) -> bool:
    """Tell whether the file may be whole for all that it could not be read or written now."""
    # The code of an extended one is in its lowest byte; errors of Python's own have none.
    return (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_CORRUPT) & 0xFF in (
        _NOT_ITS_FAULT
    )
