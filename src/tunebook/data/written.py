"""Write examples as rows of JSON lines that are detected and read as the same examples again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunebook.records import Example, Message

_PAIRS: Mapping[str, tuple[str, str]] = {
    "completion": ("prompt", "completion"),
    "qa": ("question", "answer"),
}
# JSON rows of `keyword: text` would be read as plain text.
_WRITTEN_AS = {"alpaca": "alpaca", "qa": "qa", "completion": "completion", "lines": "completion"}


def written_format(found_format: str, stage: str) -> str:
    """Give the format in which rows of a format are written: its own if it is simple, else chat."""
    if stage == "cpt":
        return "text"
    return _WRITTEN_AS.get(found_format, "chat")


def rows_of(example: Example, written: str) -> list[dict[str, object]]:
    """Write an example as one row, or as one for each text where a rewrite parted it."""
    messages = example.messages
    if written == "text":
        return [{"text": m.content} for m in messages]
    by_role = {m.role: m.content for m in messages}
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
