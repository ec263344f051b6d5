"""Read the rows of a .json file: a list of objects, or an object of id -> object.

A file of up to 64 MiB is parsed at once, which is fast; a larger one is read row by row, so that
memory does not grow with it.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator

import orjson

from tunebook.data.bad_files import is_empty
from tunebook.data.sources import MAX_ROW_BYTES, Readable, SourceFile, open_checked
from tunebook.errors import DataError

_BLOCK_BYTES = 1024 * 1024
_MOST_BLOCK_BYTES = 16 * 1024 * 1024
_SLACK_BYTES = 64 * 1024
_NOT_JSON = ("NaN", "Infinity")
_FIRST_VALUE = re.compile(rb'\{\s*"((?:[^"\\]|\\.){0,200})"\s*:\s*(\S)')
_KIND_NAMES = {
    b"[": "a list",
    b'"': "a text",
    b"t": "true or false",
    b"f": "true or false",
    b"n": "null",
}


def read_json(file: SourceFile) -> Iterator[object]:
    """Yield the values of a .json list or object, in file order.

    Raises DataError when it is not JSON, holds something else, or holds nothing.
    """
    with open_checked(file.path) as stream:
        blocks, size = list[bytes](), 0
        while size <= MAX_ROW_BYTES and (block := stream.read(_BLOCK_BYTES)):
            blocks.append(block)
            size += len(block)
        if not any(block.strip() for block in blocks):
            raise is_empty(file.path)
        if size <= MAX_ROW_BYTES:
            found = _at_once(file, b"".join(blocks))
        else:
            found = _streamed(file, blocks, stream)
        is_empty_list = True
        for value in found:
            is_empty_list = False
            yield value
    if is_empty_list:
        raise DataError(f"{file.path} holds no rows; put rows into it or leave it out")


def explain(error: orjson.JSONDecodeError, text: bytes | str) -> str:
    """Say what orjson found wrong, with a word about what is often meant to be JSON."""
    reason = error.msg.partition(": line ")[0]
    said = text.decode(errors="replace") if isinstance(text, bytes) else text
    near = said[max(0, error.pos - 9) : error.pos + 9]
    if any(word in near for word in _NOT_JSON):
        return f"{reason}; NaN and Infinity are no JSON, write null"
    return reason


def is_too_large(error: orjson.JSONDecodeError) -> bool:
    """Tell whether what was read is JSON, with a number beyond what a double holds."""
    return "infinity" in error.msg


def too_large(place: str) -> DataError:
    """Write the error of a number that is JSON, and too large for those who read it."""
    return DataError(
        f"{place} holds a number too large to be read; put it in quotation marks, or take it out"
    )


def kind_name(value: object) -> str:
    """Name the kind of a JSON value as a user would."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")


def _at_once(file: SourceFile, raw: bytes) -> Iterator[object]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if is_too_large(error):
            place = f"{file.path}: line {error.lineno}, column {error.colno}"
            raise too_large(place) from None
        hint = "; one object per line is .jsonl" if _looks_like_jsonl(raw) else "; correct it there"
        raise DataError(
            f"{file.path} is not valid JSON: line {error.lineno}, column {error.colno}: "
            f"{explain(error, raw)}{hint}"
        ) from None
    if isinstance(found, list):
        yield from found
    elif isinstance(found, dict) and found and all(isinstance(v, dict) for v in found.values()):
        yield from found.values()
    else:
        raise _no_rows(file, found)


def _no_rows(file: SourceFile, found: object) -> DataError:
    inside = ""
    if isinstance(found, dict):
        lists = [k for k, v in found.items() if isinstance(v, list) and v]
        inside = f" (the list under {lists[0]!r}, perhaps)" if lists else ""
    return DataError(
        f"{file.path} holds {kind_name(found)}, not a list of rows; write it as [{{...}}, {{...}}]"
        f"{inside}, as an object of id -> row, or as .jsonl with one object per line"
    )


def _streamed(file: SourceFile, blocks: list[bytes], rest: Readable) -> Iterator[object]:
    import ijson

    head = next(block.lstrip() for block in blocks if block.strip())
    begins = head[:1]
    if begins not in (b"[", b"{"):
        raise DataError(f"{file.path} is no list of rows; write it as [{{...}}, {{...}}]")
    if begins == b"{" and _looks_like_jsonl(head):
        raise DataError(f"{file.path} holds one object per line; rename it to .jsonl")
    if begins == b"{" and (first := _FIRST_VALUE.match(head)) and first[2] != b"{":
        kind = _KIND_NAMES.get(first[2], "a number")
        raise _no_row(file, first[1].decode(errors="replace").replace('\\"', '"'), kind)
    whole = _Chained(file, blocks, rest)
    try:
        if begins == b"[":
            for value in ijson.items(whole, "item", use_float=True, buf_size=_MOST_BLOCK_BYTES):
                whole.begin_row()
                yield value
        else:
            for key, value in ijson.kvitems(whole, "", use_float=True, buf_size=_MOST_BLOCK_BYTES):
                if not isinstance(value, dict):
                    raise _no_row(file, key, kind_name(value))
                whole.begin_row()
                yield value
    except ijson.JSONError as error:
        said = str(error).strip().splitlines() or ["it ends too early"]
        if "overflow" in said[0]:
            raise too_large(f"{file.path}: a row soon after row {whole.n_rows}") from None
        raise DataError(f"{file.path} is not valid JSON: {said[0]}; correct it there") from None


def _no_row(file: SourceFile, key: str, kind: str) -> DataError:
    way_out = "write that list alone, or better as .jsonl" if kind == "a list" else "take it out"
    return DataError(
        f"{file.path}: {key!r} holds {kind}, not a row; a large .json is a list of rows or an "
        f"object of id -> row; {way_out}"
    )


class _Chained:
    """A stream that first gives blocks that were read already, and lets go of each.

    It raises DataError when a row takes more than 64 MiB, before that row is in memory. The longer
    a row is already, the more is given of it at once: a text that goes over blocks is begun anew at
    each of them by the parser, which for 70 MiB in small blocks takes half a minute.
    """

    def __init__(self, file: SourceFile, blocks: list[bytes], rest: Readable) -> None:
        self._file, self._blocks, self._rest = file, blocks[::-1], rest
        self._left = b""
        self._row = self._row_bytes = 0
        blocks.clear()

    @property
    def n_rows(self) -> int:
        """Count the rows that are whole."""
        return self._row

    def begin_row(self) -> None:
        """Take note that a row is whole."""
        self._row += 1
        self._row_bytes = 0

    def read(self, size: int) -> bytes:
        """Read at most so many bytes."""
        # What was read at once with the end of the row before counts too.
        left = MAX_ROW_BYTES + _SLACK_BYTES - self._row_bytes
        if left < 0:
            raise DataError(
                f"{self._file.path}: after row {self._row} comes one of over 64 MiB; a large .json "
                "is a list of rows or an object of id -> row; .jsonl is better still"
            )
        wanted = min(size, max(_BLOCK_BYTES, self._row_bytes), left + 1)
        found = [self._left]
        n_found = len(self._left)
        while n_found < wanted and self._blocks:
            found.append(self._blocks.pop())
            n_found += len(found[-1])
        if n_found == 0:
            found.append(self._rest.read(wanted))
        whole = b"".join(found)
        given, self._left = whole[:wanted], whole[wanted:]
        self._row_bytes += len(given)
        return given


def _looks_like_jsonl(raw: bytes) -> bool:
    lines = itertools.islice(io.BytesIO(raw.lstrip()), 2)
    first, *rest = [*lines]
    if not first.startswith(b"{") or not rest:
        return False
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return False
    return True
