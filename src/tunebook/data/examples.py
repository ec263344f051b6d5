"""Turn rows and documents of every format into examples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from tunebook.data.detect import Detected, missing_keys, split_keyword
from tunebook.data.documents import TextPart, choose_row_unit, read_documents
from tunebook.data.rows import RawRow, read_rows
from tunebook.data.sources import Located, SourceFile, read_lines
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Example, Message, Role

_SHAREGPT_ROLES: Mapping[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}
_CHAT_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Read:
    """An example with where it stands: its file's place in the source, row, and content hash.

    `by_file` says that its document is the whole file it stands in.
    """

    example: Example
    file: int
    row: int
    content: int
    by_file: bool


def read_examples(
    located: Located, detected: Detected, source: Source, stage: str
) -> Iterator[Read]:
    """Yield every example of a source in file order.

    Stage cpt reads `keyword: text` lines as text. Raises DataError naming the row that is wrong.
    """
    check_stage(detected.format, stage, source.path)
    for index, file in enumerate(located.files):
        name = located.name if len(located.files) == 1 else f"{located.name}/{file.label}"
        for part in _read_parts(file, detected, source, stage):
            content = content_key(part.messages)
            document = file.label if part.by_file else f"{content:016x}"
            example = Example(f"{name}#{part.row}", document, part.messages)
            yield Read(example, index, part.row, content, part.by_file)


def check_stage(found: str, stage: str, path: str) -> None:
    """Refuse text for stage sft and conversations for stage cpt."""
    if stage == "cpt" and found not in ("text", "lines"):
        raise DataError(
            f"{path}: stage cpt trains on text, and this is format {found}; say `stage: sft`"
        )
    if stage == "sft" and found == "text":
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


def _read_parts(
    file: SourceFile, detected: Detected, source: Source, stage: str
) -> Iterator[TextPart]:
    if detected.format == "lines":
        yield from _read_lines(file, source, stage)
    elif file.kind == "text":
        yield from read_documents(file, source.document, source.separator)
    else:
        by_file = choose_row_unit(source) == "file"
        build = _BUILDERS[detected.format]
        for row in read_rows(file):
            yield TextPart(row.row, build(row, detected.mapping), by_file)


def _read_lines(file: SourceFile, source: Source, stage: str) -> Iterator[TextPart]:
    by_file = choose_row_unit(source) == "file"
    for number, line in read_lines(file):
        if not line.strip():
            continue
        found = split_keyword(line)
        if found is None:
            raise DataError(
                f"{file.path}, line {number}: format lines needs `keyword: text`, and the line is "
                f"{line.strip()[:40]!r}; correct it, or say `format: text` with `stage: cpt`"
            )
        if stage == "cpt":
            yield TextPart(number, (Message("text", line.rstrip("\r\n")),), by_file)
        else:
            messages = (Message("user", found[0]), Message("assistant", found[1]))
            yield TextPart(number, messages, by_file)


# --- JSON rows ----------------------------------------------------------------------------------


def _alpaca(row: RawRow, mapping: Mapping[str, str]) -> tuple[Message, ...]:
    instruction = _text(row, "alpaca", "instruction", mapping)
    output = _text(row, "alpaca", "output", mapping)
    messages = [Message("user", instruction)]
    column = mapping.get("input", "input")
    material = row.values.get(column)
    if material is not None and not isinstance(material, str):
        raise _not_text(row, column, material)
    if material and material.strip():
        messages.append(Message("input", material))
    return (*messages, Message("assistant", output))


def _completion(row: RawRow, mapping: Mapping[str, str]) -> tuple[Message, ...]:
    prompt = _text(row, "completion", "prompt", mapping)
    answer = _text(row, "completion", "completion", mapping)
    return Message("user", prompt), Message("assistant", answer)


def _plain_text(row: RawRow, mapping: Mapping[str, str]) -> tuple[Message, ...]:
    return (Message("text", _text(row, "text", "text", mapping)),)


def _chat(row: RawRow, mapping: Mapping[str, str]) -> tuple[Message, ...]:
    return _turns(row, "chat", mapping, "role", "content", _CHAT_ROLES)


def _sharegpt(row: RawRow, mapping: Mapping[str, str]) -> tuple[Message, ...]:
    return _turns(row, "sharegpt", mapping, "from", "value", _SHAREGPT_ROLES)


def _turns(
    row: RawRow,
    name: str,
    mapping: Mapping[str, str],
    who: str,
    what: str,
    roles: Mapping[str, Role],
) -> tuple[Message, ...]:
    key = "messages" if name == "chat" else "conversations"
    column = mapping.get(key, key)
    if column not in row.values:
        raise missing_keys(row, name, mapping, [key])
    turns = row.values[column]
    if not isinstance(turns, list):
        raise DataError(f"{row.place}: {column} is not a list of turns")
    messages = []
    for place, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or who not in turn or what not in turn:
            raise DataError(
                f"{row.place}: turn {place} of {column} needs {who} and {what}, as format {name} "
                f"has them"
            )
        role, said = turn[who], turn[what]
        if not isinstance(role, str) or role not in roles:
            raise DataError(
                f"{row.place}: turn {place} has {who} {role!r}; format {name} knows "
                f"{', '.join(roles)}"
            )
        if not isinstance(said, str):
            raise _not_text(row, f"{what} of turn {place}", said)
        messages.append(Message(roles[role], said))
    return tuple(messages)


def _text(row: RawRow, name: str, key: str, mapping: Mapping[str, str]) -> str:
    column = mapping.get(key, key)
    if column not in row.values:
        raise missing_keys(row, name, mapping, [key])
    value = row.values[column]
    if not isinstance(value, str):
        raise _not_text(row, column, value)
    return value


def _not_text(row: RawRow, column: str, value: object) -> DataError:
    shown = orjson.dumps(value).decode()[:40]
    return DataError(f"{row.place}: {column} is {shown}, not a text; put it in quotation marks")


_BUILDERS: Mapping[str, Callable[[RawRow, Mapping[str, str]], tuple[Message, ...]]] = {
    "alpaca": _alpaca,
    "completion": _completion,
    "text": _plain_text,
    "chat": _chat,
    "sharegpt": _sharegpt,
}
