"""Turn rows and documents of every format into examples."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import orjson

from tunebook.data.detect import Detected
from tunebook.data.documents import TextPart, choose_row_unit, read_documents
from tunebook.data.formats import (
    Turns,
    find_builder,
    shapes_of,
    stages_of,
    stated_document,
)
from tunebook.data.formats.lines import split_keyword
from tunebook.data.rows import RawRow, read_rows
from tunebook.data.sources import Located, read_lines
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Example, Message

_WRITTEN_KEY = re.compile(r"key:([0-9a-f]{16})\Z")


@dataclass(frozen=True, slots=True)
class Read:
    """An example with where it stands: its file's place in the source, row, and hashes.

    `sub` numbers the examples of a row that has several, from 1. `content` hashes what the example
    says, `document` what a split counts by; `by_file` says that this is the file it stands in.
    """

    example: Example
    file: int
    row: int
    sub: int
    content: int
    document: int
    by_file: bool


class Reader:
    """Turns the rows, lines or documents of a source into examples, wherever they come from."""

    def __init__(self, located: Located, detected: Detected, source: Source, stage: str) -> None:
        check_stage(detected.format, stage, source.path)
        self.located, self.detected, self.source, self.stage = located, detected, source, stage
        self._file_keys = [document_key(file.label) for file in located.files]
        self._names = [
            located.name if len(located.files) == 1 else f"{located.name}/{file.label}"
            for file in located.files
        ]

    def examples(self) -> Iterator[Read]:
        """Yield every example of the source in file order."""
        for index in range(len(self.located.files)):
            yield from self.of_file(index)

    def of_file(self, index: int) -> Iterator[Read]:
        """Yield the examples of file number `index`."""
        file = self.located.files[index]
        if file.kind == "text" and self.detected.format == "lines":
            yield from self.of_lines(index, read_lines(file))
        elif file.kind == "text":
            unit, separator = self.source.document, self.source.separator
            yield from self.of_documents(index, read_documents(file, unit, separator))
        else:
            yield from self.of_rows(index, read_rows(file))

    def of_rows(self, index: int, rows: Iterable[RawRow]) -> Iterator[Read]:
        """Yield the examples of rows of file number `index`."""
        by_file = choose_row_unit(self.source) == "file"
        build = find_builder(self.detected.format, self.detected.shape, self.stage)
        mapping = self.detected.mapping
        shape = shapes_of(self.detected.format)[self.detected.shape]
        for row in rows:
            found = build(row, mapping, self.source)
            if (stated := stated_document(row, shape, mapping)) is not None:
                found = [replace(turns, document=stated) for turns in found]
            yield from self._reads(index, row.row, found, by_file)

    def of_documents(self, index: int, parts: Iterable[TextPart]) -> Iterator[Read]:
        """Yield the documents of a text file as examples."""
        for part in parts:
            yield from self._reads(index, part.row, [Turns(part.messages)], part.by_file)

    def of_lines(self, index: int, lines: Iterable[tuple[int, str]]) -> Iterator[Read]:
        """Yield `keyword: text` lines as examples; stage cpt reads them as text."""
        by_file = choose_row_unit(self.source) == "file"
        for number, line in lines:
            if not line.strip():
                continue
            found = split_keyword(line)
            if found is None:
                raise DataError(
                    f"{self.located.files[index].path}, line {number}: format lines needs "
                    f"`keyword: text`, and the line is {line.strip()[:40]!r}; correct it, or say "
                    "`format: text` with `stage: cpt`"
                )
            if self.stage == "cpt":
                messages: tuple[Message, ...] = (Message("text", line.rstrip("\r\n")),)
            else:
                messages = (Message("user", found[0]), Message("assistant", found[1]))
            yield from self._reads(index, number, [Turns(messages)], by_file)

    def _reads(self, index: int, row: int, found: Sequence[Turns], by_file: bool) -> Iterator[Read]:
        name = self._names[index]
        keys = [content_key(turns.messages) for turns in found]
        # All examples of a row are one document: a split must not tear a conversation apart.
        document = self._file_keys[index] if by_file else _document_of(keys, found[0].document)
        shown = self.located.files[index].label if by_file else f"{document:016x}"
        if len(found) == 1:
            example = Example(f"{name}#{row}", shown, found[0].messages, found[0].window_from)
            yield Read(example, index, row, 0, keys[0], document, by_file)
            return
        for sub, (turns, key) in enumerate(zip(found, keys, strict=True), start=1):
            example = Example(f"{name}#{row}.{sub}", shown, turns.messages, turns.window_from)
            yield Read(example, index, row, sub, key, document, by_file)


def _document_of(keys: Sequence[int], stated: str | None) -> int:
    if stated is not None:
        return key_of_document(stated)
    if len(keys) == 1:
        return keys[0]
    return int.from_bytes(_hash(b"".join(key.to_bytes(8, "little") for key in keys)), "little")


def key_of_document(name: str) -> int:
    """Hash the name of a document; a name that `name_of_document` gave stands for its key.

    So rows that are written and read again stay on the side of a split where they were.
    """
    if found := _WRITTEN_KEY.match(name):
        return int(found[1], 16)
    return int.from_bytes(_hash(b"document\0" + name.encode("utf-8", "surrogatepass")), "little")


def name_of_document(key: int) -> str:
    """Write the key of a document as the name that a row gives for it."""
    return f"key:{key:016x}"


def check_stage(found: str, stage: str, path: str) -> None:
    """Refuse text for stage sft and conversations for stage cpt."""
    if stages_of(found)[stage]:
        return
    if stage == "cpt":
        raise DataError(
            f"{path}: stage cpt trains on text, and this is format {found}; say `stage: sft`"
        )
    raise DataError(
        f"{path}: stage sft trains on prompts and responses, and this is text; say `stage: cpt`"
    )


def content_key(messages: tuple[Message, ...]) -> int:
    """Hash what a row says to 64 evenly spread bits, the same in every source and run."""
    said = orjson.dumps([[m.role, m.content] for m in messages])
    return int.from_bytes(_hash(said), "little")


def document_key(name: str) -> int:
    """Hash the name of a file that is one document."""
    return int.from_bytes(_hash(b"file\0" + name.encode()), "little")


def _hash(data: bytes) -> bytes:
    # The salt is part of the product, never of a run: a split does not move with the seed.
    return hashlib.blake2b(data, digest_size=8, person=b"tunebook.split").digest()
