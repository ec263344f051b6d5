"""Cut a source into pieces that can be read apart, each small enough to be in memory.

The cut depends on nothing but the files, so a preparation that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from tunebook.data.bad_files import all_blank, is_empty
from tunebook.data.containers import LOOKED_AT_BYTES, refuse_container
from tunebook.data.documents import TextPart, read_documents
from tunebook.data.examples import Read, Reader
from tunebook.data.rows import RawRow, parse_line, read_rows
from tunebook.data.sources import (
    MAX_ROW_BYTES,
    Located,
    SourceFile,
    decode_lines,
    explained,
    read_lines,
)
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Message

PIECE_BYTES = 16 * 1024 * 1024
# A game that Stockfish looks at takes as long as megabytes of text.
LABELLED_PIECE_BYTES = 64 * 1024
_PIECE_ROWS = 100_000
_VALUE_BYTES = 56  # what Python keeps about a value beside what it says


@dataclass(frozen=True, slots=True)
class Span:
    """The lines of an uncompressed file between two bytes; `first_line` None is not yet known."""

    path: Path
    start: int
    stop: int
    first_line: int | None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of file number `file` of a source: a span of it, or what was read of it already."""

    number: int
    file: int
    found: Span | list[tuple[int, str]] | list[RawRow] | list[TextPart]
    n_bytes: int

    @property
    def first_line(self) -> int | None:
        """The number of its first line; None when only the lines before can tell."""
        return self.found.first_line if isinstance(self.found, Span) else 1


def piece_bytes(found_format: str, source: Source) -> int:
    """Give the size of a source's pieces; where a row takes long, they are small."""
    games = found_format in ("chess-uci", "pgn")
    labelled = games and "best_move" in source.chess.shares
    return LABELLED_PIECE_BYTES if labelled else PIECE_BYTES


def cut_pieces(located: Located, found_format: str, source: Source) -> Iterator[Piece]:
    """Yield the pieces of a source in file order."""
    number = 0
    size = piece_bytes(found_format, source)
    for index, file in enumerate(located.files):
        for found, n_bytes in _cut_file(file, found_format, source, size):
            yield Piece(number, index, found, n_bytes)
            number += 1


def _cut_file(
    file: SourceFile, found_format: str, source: Source, size: int
) -> Iterator[tuple[Span | list[tuple[int, str]] | list[RawRow] | list[TextPart], int]]:
    if _is_by_line(file, found_format, source):
        if file.path.suffix.lower() not in (".gz", ".zst"):
            _require_content(file.path)
            for start, stop in _spans(file.path, size):
                yield Span(file.path, start, stop, 1 if start == 0 else None), stop - start
        else:
            yield from _batches(_not_all_blank(file), lambda line: len(line[1]), size)
    elif file.kind == "text" and found_format == "text":
        documents = read_documents(file, source.document, source.separator)
        yield from _batches(
            documents, lambda part: sum(len(m.content) for m in part.messages), size
        )
    else:
        yield from _batches(read_rows(file), size_of_row, size)


def _is_by_line(file: SourceFile, found_format: str, source: Source) -> bool:
    if file.kind == "text":
        in_lines = found_format == "text" and source.document in ("line", "row")
        return found_format == "lines" or in_lines
    return file.kind == "jsonl"


def size_of_row(row: RawRow) -> int:
    """Estimate the memory of a row's values, however deep: its texts, and a share for the rest."""
    size = 0
    left: list[object] = [*row.values.values()]
    while left:
        value = left.pop()
        size += _VALUE_BYTES
        if isinstance(value, str | bytes):
            size += len(value)
        elif isinstance(value, Mapping):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    return size


T = TypeVar("T")


def _batches(
    found: Iterable[T], size_of: Callable[[T], int], limit: int
) -> Iterator[tuple[list[T], int]]:
    batch: list[T] = []
    size = 0
    for one in found:
        batch.append(one)
        size += size_of(one)
        if size >= limit or len(batch) == _PIECE_ROWS:
            yield batch, size
            batch, size = [], 0
    if batch:
        yield batch, size


def _not_all_blank(file: SourceFile) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file; DataError at its end when all were blank."""
    number, is_blank = 0, True
    for number, line in read_lines(file):
        is_blank = is_blank and not line.strip()
        yield number, line
    if is_blank:
        raise all_blank(file.path, number)


def _require_content(path: Path) -> None:
    """Raise DataError for a file that is empty or has blank lines only; it reads up to a row."""
    n_lines = 0
    with explained(path), path.open("rb") as stream:
        refuse_container(path, stream.peek(LOOKED_AT_BYTES))
        while raw := stream.readline(MAX_ROW_BYTES + 1):
            n_lines += 1
            # What is wrong with bytes is found where they are read.
            if raw != b"\n" and raw.decode("utf-8-sig", errors="replace").strip():
                return
    raise all_blank(path, n_lines) if n_lines else is_empty(path)


def _spans(path: Path, limit: int) -> Iterator[tuple[int, int]]:
    """Yield byte ranges that end with a line."""
    with explained(path), path.open("rb") as stream:
        size = path.stat().st_size
        start = 0
        while start < size:
            stream.seek(min(start + limit, size))
            stream.readline(MAX_ROW_BYTES + 1)
            stop = min(stream.tell(), size)
            yield start, stop
            start = stop


def count_lines_before(span: Span) -> int:
    """Count the lines of a file before a span."""
    n_lines, left = 0, span.start
    with explained(span.path), span.path.open("rb") as stream:
        while left and (block := stream.read(min(left, PIECE_BYTES))):
            n_lines += block.count(b"\n")
            left -= len(block)
    return n_lines


class PieceReader:
    """Reads the examples of a piece; `n_lines` and `blank_lines` are what it saw of lines.

    Rows of a span whose first line is not known are numbered from 1.
    """

    def __init__(self, reader: Reader, piece: Piece) -> None:
        self._reader, self._piece = reader, piece
        self.n_lines = self.blank_lines = 0

    def examples(self) -> Iterator[Read]:
        """Yield the examples in file order; raises DataError naming the row that is wrong."""
        reader, piece = self._reader, self._piece
        file = reader.located.files[piece.file]
        found = piece.found
        if not isinstance(found, Span) and not (found and isinstance(found[0], tuple)):
            yield from _of_read(reader, piece.file, found)
        elif file.kind == "jsonl":
            yield from reader.of_rows(piece.file, self._rows(file))
        elif reader.detected.format == "lines":
            yield from reader.of_lines(piece.file, self._lines(file))
        else:
            parts = (
                TextPart(number, (Message("text", line.rstrip("\r\n")),), by_file=False)
                for number, line in self._lines(file)
            )
            yield from reader.of_documents(piece.file, parts)

    def _rows(self, file: SourceFile) -> Iterator[RawRow]:
        if not isinstance(self._piece.found, Span):
            for number, line in self._lines(file):
                yield parse_line(file, number, line)
            return
        span = self._piece.found
        offset = span.start
        for number, raw in enumerate(_raw_lines(span), start=span.first_line or 1):
            self.n_lines += 1
            if not raw.strip():
                self.blank_lines += 1
            elif b"\0" in raw or offset == 0 or len(raw) > MAX_ROW_BYTES:
                # What is wrong with bytes is found where they are decoded.
                yield from self._decoded(file, number, raw, offset)
            else:
                try:
                    rows: Iterable[RawRow] = (parse_line(file, number, raw),)
                except DataError:
                    rows = self._decoded(file, number, raw, offset)
                yield from rows
            offset += len(raw)

    def _decoded(self, file: SourceFile, number: int, raw: bytes, offset: int) -> Iterator[RawRow]:
        """Yield the row of a line, none when all it has is a kind of space."""
        ((_, line),) = decode_lines(file.path, [raw], first_line=number, first_byte=offset)
        if line.strip():
            yield parse_line(file, number, line)
        else:
            self.blank_lines += 1

    def _lines(self, file: SourceFile) -> Iterator[tuple[int, str]]:
        found = self._piece.found
        if isinstance(found, Span):
            lines = decode_lines(
                file.path,
                _raw_lines(found),
                first_line=found.first_line or 1,
                first_byte=found.start,
            )
        else:
            lines = iter(cast("list[tuple[int, str]]", found))
        for number, line in lines:
            self.n_lines += 1
            if line.strip():
                yield number, line
            else:
                self.blank_lines += 1


def _raw_lines(span: Span) -> Iterator[bytes]:
    left = span.stop - span.start
    with explained(span.path), span.path.open("rb") as stream:
        stream.seek(span.start)
        while left > 0 and (raw := stream.readline(MAX_ROW_BYTES + 1)):
            left -= len(raw)
            yield raw


def _of_read(
    reader: Reader, file: int, found: list[tuple[int, str]] | list[RawRow] | list[TextPart]
) -> Iterator[Read]:
    if found and isinstance(found[0], TextPart):
        yield from reader.of_documents(file, (one for one in found if isinstance(one, TextPart)))
    else:
        yield from reader.of_rows(file, (one for one in found if isinstance(one, RawRow)))
