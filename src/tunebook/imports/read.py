"""Tell which tool wrote a file, and read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tunebook.errors import DataError, TunebookError, UsageError, refuse_unwritable_name
from tunebook.imports.found import Found
from tunebook.imports.logs import (
    read_csv,
    read_json,
    read_json_lines,
    read_tensorboard,
    read_trackio,
)
from tunebook.imports.markdown_table import has_table, read_markdown
from tunebook.regular import read_regular, what_else

_KNOWN = ("trainer_state.json", "trainer_log.jsonl", "wandb-history.jsonl")
_NOT_READ = {
    ".wandb": "the binary log of W&B has no open format; export the run's history as CSV or "
    "JSON lines (`run.history()`)",
    ".parquet": "parquet is not read; give Trackio's project.db, or write the table as CSV",
    ".pkl": "pickles run code when they are read; write the table as CSV",
}
_MOST_BYTES = 2**30
_MOST_PAGE = 16 << 20


def read_file(path: Path, columns: Mapping[str, str] | None = None) -> Found:
    """Read the runs of a file or a folder with one log; DataError says what is wrong with it.

    `columns` name the column of a field: {"loss": "train/loss"}.
    """
    path = _choose(path)
    try:
        return _read(path, columns or {})
    except (DataError, UsageError) as error:
        raise type(error)(f"{path}: {error}") from None
    except TunebookError:
        raise
    except (ArithmeticError, ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _choose(path: Path) -> Path:
    _refuse_no_file(path)
    if not path.exists():
        raise DataError(f"there is no file {path}")
    refuse_unwritable_name(path)
    if not path.is_dir():
        return path
    found = [path / name for name in _KNOWN if (path / name).is_file()]
    events = sorted(path.glob("*tfevents*"))
    for one in events:
        _refuse_no_file(one)  # its reader opens them all, and would wait at a pipe
    if events:
        found.append(path)
    if len(found) != 1:
        what = ", ".join(one.name for one in found) or "none of " + ", ".join(_KNOWN)
        raise DataError(f"the folder {path} holds {what}; name the file to read")
    return found[0]


def _refuse_no_file(path: Path) -> None:
    if (leads := what_else(path)) is not None:
        raise DataError(f"{path} is {leads}, and no log or table; save what it says as a file")


def _read(path: Path, columns: Mapping[str, str]) -> Found:
    name = _name_of(path)
    if path.is_dir() or "tfevents" in path.name:
        return read_tensorboard(path, name, columns)
    if path.suffix in _NOT_READ:
        raise DataError(_NOT_READ[path.suffix])
    if path.stat().st_size > _MOST_BYTES:
        raise DataError("it has more than 1 GiB, which no log of losses has")
    data = read_regular(path, _MOST_BYTES)
    if data.startswith(b"SQLite format 3\0"):
        return read_trackio(path, columns)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"it is no text: {error.reason} at byte {error.start}") from None
    if not text.strip():
        raise DataError("it is empty")
    if path.suffix in (".jsonl", ".ndjson"):
        return read_json_lines(text, name, columns)
    if text.lstrip()[0] in "[{":
        return read_json(text, name, columns)
    if has_table(text):
        if len(text) > _MOST_PAGE:
            raise DataError("it is a page of more than 16 MiB; keep its tables in a file of theirs")
        return read_markdown(text, columns)
    if any(sign in text.split("\n", 1)[0] for sign in ",;\t"):
        return read_csv(text, name, columns)
    raise DataError("it is no log or table that can be read; docs/import.md lists them")


def _name_of(path: Path) -> str:
    """Name a run by its file, or by its folder where the file is called as all of them are."""
    name = path.name if path.is_dir() else path.stem
    if path.name in _KNOWN or ("tfevents" in path.name and not path.is_dir()):
        path = path.absolute().parent
        while path.name == "files" or path.name.startswith("checkpoint-"):
            path = path.parent
        name = path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100] or "imported"
