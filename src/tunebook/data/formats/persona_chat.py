"""Synthetic-Persona-Chat: two personas and a talk written as `User 1: ...` lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.data.formats.persona import describe, one_per_answer, resolve_roles
from tunebook.data.formats.shape import Shape, Turns, text_of
from tunebook.recipe.tree import Source
from tunebook.records import Message

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow

_PERSONAS = {"User 1": "user 1 personas", "User 2": "user 2 personas"}
_TALK = "Best Generated Conversation"
_TURN = re.compile(r"^[ \t*]*(User [12])[ \t]*:[ \t*]*(.*)$")


def build(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example per answer, with the persona of the one who answers.

    A line without a speaker goes on what was said before it. A row without any speaker has no
    answer, and is dropped as one without target tokens.
    """
    talk = _split(text_of(row, "persona", _TALK, mapping))
    if not talk:
        return [Turns((Message("user", text_of(row, "persona", _TALK, mapping)),))]
    # Both are named even when one is silent, so that a persona is never the wrong one's.
    roles = resolve_roles(_PERSONAS, source.roles, row.place)
    persona = " ".join(
        said.strip()
        for speaker, column in _PERSONAS.items()
        if roles[speaker] == "assistant"
        for said in text_of(row, "persona", column, mapping).splitlines()
    )
    return one_per_answer(
        describe(persona, ""), [Message(roles[speaker], said) for speaker, said in talk]
    )


def _split(text: str) -> list[tuple[str, str]]:
    talk: list[tuple[str, str]] = []
    for line in text.splitlines():
        if found := _TURN.match(line):
            talk.append((found[1], found[2].strip()))
        elif talk and line.strip():
            speaker, said = talk[-1]
            talk[-1] = speaker, f"{said}\n{line.strip()}"
    return talk


SHAPES = (
    Shape(
        "persona",
        (_TALK, *_PERSONAS.values()),
        build,
        about="User 2 answers with user 2's persona (`roles:` changes that)",
    ),
)
