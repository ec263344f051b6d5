"""Read the rows of tables: csv, tsv, parquet and the Arrow files of a hub's data set."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunebook.data.sources import MAX_ROW_BYTES, SourceFile, read_lines
from tunebook.errors import DataError, first_line

_DELIMITERS = {"csv": ",", "tsv": "\t"}
_SIGNS = {"csv": "comma", "tsv": "tab"}
_BATCH_ROWS = 256
_BATCH_BYTES = 8 * 1024 * 1024
_LONGEST_NAME = 100


def read_csv(file: SourceFile) -> Iterator[dict[str, object]]:
    """Yield the rows of a .csv or .tsv file under the names of its first line.

    Raises DataError for a file without such a line, a row with more or fewer fields than it, and
    quotation marks that do not fit.
    """
    # The limit belongs to the module; a field is never larger than what a row may be.
    csv.field_size_limit(MAX_ROW_BYTES)
    delimiter = _DELIMITERS[file.kind]
    reader = csv.reader((line for _, line in read_lines(file)), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    number = begins = 0
    try:
        for fields in reader:
            begins, line = reader.line_num + 1, begins
            if not fields:
                continue
            if names is None:
                names = _header(file, fields)
                continue
            number += 1
            if len(fields) != len(names):
                place = f"{file.path}, row {number} (line {max(line, 1)})"
                raise _wrong_number(file, place, len(fields), len(names))
            yield dict(zip(names, fields, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{file.path}, row {number + 1} (from line {max(begins, 1)}) is not valid "
            f"{file.kind}: {error}; look for a quotation mark that is not closed or not doubled"
        ) from None
    if not number:
        raise DataError(f"{file.path} holds no rows; put rows into it or leave it out")


def _wrong_number(file: SourceFile, place: str, n_has: int, n_named: int) -> DataError:
    sign = _SIGNS[file.kind]
    has = f"{place} has {n_has} field{'s' * (n_has != 1)}, and the first line names {n_named}"
    if n_has > n_named:
        return DataError(f"{has}; put fields with a {sign} in quotation marks")
    return DataError(
        f"{has}; write each field, an empty one as well, with a {sign} between, and put a text "
        "with a line break in quotation marks"
    )


def _header(file: SourceFile, names: list[str]) -> list[str]:
    if len(names) == 1 and file.kind == "csv" and any(sign in names[0] for sign in ";\t"):
        raise DataError(
            f"{file.path}: the first line {names[0][:60]!r} has no comma; save it with commas "
            "between the fields, or as .tsv with tabs"
        )
    odd = [n for n in names if _is_number(n) or len(n) > _LONGEST_NAME or "\n" in n]
    odd += [n for n in set(names) if names.count(n) > 1]
    if odd:
        raise DataError(
            f"{file.path}: the first line must name the columns, and {odd[0][:60]!r} is no name of "
            "its own; put a line such as `question,answer` on top"
        )
    return names


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def read_parquet(file: SourceFile) -> Iterator[dict[str, object]]:
    """Yield the rows of a .parquet file, some hundred at a time in memory."""
    if file.path.suffix.lower() in (".gz", ".zst"):
        raise DataError(f"{file.path}: parquet compresses by itself; unpack the file first")
    _pyarrow(file)
    from pyarrow.parquet import ParquetFile

    with _explained(file), ParquetFile(file.path) as table:
        yield from _rows(file, table.iter_batches(batch_size=_BATCH_ROWS))


def read_arrow(file: SourceFile) -> Iterator[dict[str, object]]:
    """Yield the rows of an Arrow stream, as `datasets` keeps them, a batch at a time."""
    pyarrow = _pyarrow(file)
    with _explained(file), pyarrow.memory_map(str(file.path)) as stream:
        yield from _rows(file, pyarrow.ipc.open_stream(stream))


def _rows(file: SourceFile, batches: Any) -> Iterator[dict[str, object]]:
    found = False
    for batch in batches:
        for part in cut_batch(batch):
            rows = part.to_pylist()
            found |= bool(rows)
            yield from rows
    if not found:
        raise DataError(f"{file.path} holds no rows; put rows into it or leave it out")


def cut_batch(batch: Any) -> Iterator[Any]:
    """Cut a batch of Arrow: as Python's values its rows take several times the memory."""
    at_once = batch.num_rows * _BATCH_BYTES // max(batch.nbytes, 1)
    at_once = min(max(at_once, 1), _BATCH_ROWS)
    for start in range(0, batch.num_rows, at_once):
        yield batch.slice(start, at_once)


def _pyarrow(file: SourceFile) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise DataError(
            f"{file.path}: reading {file.kind} needs pyarrow; pip install 'tunebook[parquet]'"
        ) from None
    return pyarrow


@contextmanager
def _explained(file: SourceFile) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file.path} is damaged or no {file.kind} file ({first_line(error)}); copy it again"
        ) from None
