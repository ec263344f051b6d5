"""Opening a SQLite file that somebody else may have made: it is data, and its schema no program.

A view in it can compute for ever, and the files beside it can lead SQLite to any other: it rolls
back, truncates and deletes what a journal names.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIDE_FILES = ("-journal", "-wal", "-shm")
_MOST_VALUE_BYTES = 2**26
_LOOK_EVERY = 10_000  # operations between two looks at how many there were
# How a journal ends that names another journal; SQLite would delete the file of that name.
_NAMES_ANOTHER = bytes.fromhex("d9d505f920a163d7")


@contextmanager
def open_untrusted(
    path: Path, *, writable: bool, most_operations: int
) -> Iterator[sqlite3.Connection]:
    """Open a database whose schema runs nothing, and of which only tables can be read.

    After `most_operations` of SQLite's machine it is interrupted. Raises sqlite3.Error, also where
    a file beside it is none that SQLite left there.
    """
    place = path.resolve()
    _refuse_strange_side_files(place)
    mode = "rwc" if writable else "ro"
    connection = sqlite3.connect(
        f"{place.as_uri()}?mode={mode}", uri=True, timeout=2.0, isolation_level=None
    )
    left = most_operations // _LOOK_EVERY

    def is_too_much() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_VALUE_BYTES)
        connection.set_progress_handler(is_too_much, _LOOK_EVERY)
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
        connection.set_authorizer(_refuse_programs)
        yield connection
    finally:
        connection.close()


def computed_columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Name the columns of a table whose values SQLite computes whenever they are read.

    Nothing bounds how long one takes: it is a single operation.
    """
    rows = connection.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden > 1", (table,))
    return [str(name) for (name,) in rows]


def _refuse_programs(
    action: int, _one: str | None, _two: str | None, _database: str | None, inside: str | None
) -> int:
    """Refuse what a view or a trigger asks for; `inside` is its name."""
    programs = (sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_ATTACH)
    return sqlite3.SQLITE_DENY if inside or action in programs else sqlite3.SQLITE_OK


def _refuse_strange_side_files(path: Path) -> None:
    for ending in SIDE_FILES:
        beside = path.with_name(path.name + ending)
        try:
            found = beside.lstat()
        except OSError:
            continue
        # SQLite would empty what a link leads to, and wait at a pipe for ever.
        if not stat.S_ISREG(found.st_mode):
            raise sqlite3.DatabaseError(f"{beside.name} is no file")
        if ending == "-journal" and found.st_size >= len(_NAMES_ANOTHER):
            with open(beside, "rb") as file:
                file.seek(-len(_NAMES_ANOTHER), 2)
                if file.read() == _NAMES_ANOTHER:
                    raise sqlite3.DatabaseError(f"{beside.name} names another journal")
