"""Conversations as lists of messages: chat and ShareGPT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.data.formats.broken import lacking_key, not_text
from tunebook.data.formats.shape import DOCUMENT, Shape, Turns
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Message, Role
from tunebook.units import shorten

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow

# `input` and `knowledge` are what `tunebook data filter` writes for other formats' turns.
_CHAT_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "input": "input",
    "knowledge": "knowledge",
}
_SHAREGPT_ROLES: Mapping[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}


def build_chat(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example of `messages` with role and content.

    A turn may say `"trained": false`, and a row from which message on the oldest may be left out.
    """
    roles = {**_CHAT_ROLES, **source.roles}
    messages = _messages(row, ("chat", "messages"), mapping, ("role", "content"), roles)
    window_from = row.values.get(mapping.get("window_from", "window_from"))
    if window_from is not None and not (
        isinstance(window_from, int) and 0 <= window_from < len(messages)
    ):
        raise DataError(
            f"{row.place}: window_from is {window_from!r}, and must be the place of a message, "
            f"from 0 to {len(messages) - 1}"
        )
    return [Turns(messages, window_from)]


def build_sharegpt(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example of `conversations` with from and value."""
    roles = {**_SHAREGPT_ROLES, **source.roles}
    names = ("sharegpt", "conversations")
    return [Turns(_messages(row, names, mapping, ("from", "value"), roles))]


def _messages(
    row: RawRow,
    names: tuple[str, str],
    mapping: Mapping[str, str],
    keys: tuple[str, str],
    roles: Mapping[str, Role],
) -> tuple[Message, ...]:
    (found_format, key), (who, what) = names, keys
    column = mapping.get(key, key)
    if column not in row.values:
        raise lacking_key(row, found_format, mapping, key)
    turns = row.values[column]
    if not isinstance(turns, list):
        raise DataError(f"{row.place}: {column} is not a list of turns")
    messages = []
    for place, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or who not in turn or what not in turn:
            raise DataError(
                f"{row.place}: turn {place} of {column} needs {who} and {what}, as format "
                f"{found_format} has them"
            )
        role, said = turn[who], turn[what]
        if not isinstance(role, str) or role not in roles:
            shown = shorten(str(role))
            raise DataError(
                f"{row.place}: turn {place} has {who} {shown!r}; format {found_format} knows "
                f"{', '.join(roles)}; say what it is, as `roles: {{{shown}: user}}`"
            )
        if not isinstance(said, str):
            raise not_text(row, f"{what} of turn {place}", said)
        messages.append(Message(roles[role], said, turn.get("trained") is not False))
    return tuple(messages)


def _is_list(values: Mapping[str, object], columns: Mapping[str, str]) -> bool:
    return any(
        isinstance(values.get(columns.get(key, key)), list) for key in ("messages", "conversations")
    )


SHAPES = (
    Shape("chat", ("messages",), build_chat, optional=("window_from", DOCUMENT), fits=_is_list),
    Shape("sharegpt", ("conversations",), build_sharegpt, optional=(DOCUMENT,), fits=_is_list),
)
