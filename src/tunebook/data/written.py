"""Write examples as rows of JSON lines that are detected and read as the same examples again.

A row keeps what a template and a split go by: `format` where its keys alone would be read as
another format, and `document` where it belongs to more than what it says (a talk, a game, a file),
so that rows of one talk are never on both sides of a split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunebook.data.examples import Read, name_of_document
from tunebook.data.formats.shape import DOCUMENT
from tunebook.records import Example, Message

_PAIRS: Mapping[str, tuple[str, str]] = {
    "completion": ("prompt", "completion"),
    "qa": ("question", "answer"),
    "lines": ("keyword", "text"),
    "pgn": ("prompt", "completion"),
}
_WRITTEN_AS = {
    **{name: name for name in ("alpaca", "qa", "completion", "lines", "persona", "pgn")},
    "chess-uci": "pgn",
}
_SAYING_FORMAT = ("lines", "persona", "pgn")


def written_format(found_format: str, stage: str) -> str:
    """Give the format in which rows of a format are written: its own, or chat for talks."""
    if stage == "cpt":
        return "text"
    return _WRITTEN_AS.get(found_format, "chat")


def rows_of(read: Read, example: Example, written: str) -> list[dict[str, object]]:
    """Write what became of an example as a row, or one for each text where a rewrite parted it."""
    rows = _rows_of(example, written)
    named = {"format": written} if written in _SAYING_FORMAT else {}
    if len(rows) > 1 or read.document != read.content:
        named[DOCUMENT] = name_of_document(read.document)
    return [{**row, **named} for row in rows]


def _rows_of(example: Example, written: str) -> list[dict[str, object]]:
    messages = example.messages
    if written == "text":
        return [{"text": m.content} for m in messages]
    # What is dropped may have no answer, or nothing at all.
    by_role = {"user": "", "assistant": "", **{m.role: m.content for m in messages}}
    if written == "alpaca":
        return [
            {
                "instruction": by_role["user"],
                "input": by_role.get("input", ""),
                "output": by_role["assistant"],
            }
        ]
    if written in _PAIRS:
        asked, answer = _PAIRS[written]
        return [{asked: by_role["user"], answer: by_role["assistant"]}]
    row: dict[str, object] = {"messages": _turns(messages)}
    if example.window_from is not None:
        row["window_from"] = example.window_from
    return [row]


def _turns(messages: Sequence[Message]) -> list[dict[str, object]]:
    turns: list[dict[str, object]] = []
    for message in messages:
        turn: dict[str, object] = {"role": message.role, "content": message.content}
        if not message.trained:
            turn["trained"] = False
        turns.append(turn)
    return turns
