"""wow++: turns without names, and sentences that are knowledge for the talk or are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.data.formats.broken import not_text
from tunebook.data.formats.persona import describe, one_per_answer, resolve_roles
from tunebook.data.formats.shape import Shape, Turns
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Message, Role

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow

_MARK = "<knowledge_separator>"
# The one who speaks last asks what is not answered any more; the other is the one who knows.
_OTHER, _LAST = "other speaker", "last speaker"
_ROLES: Mapping[str, Role] = {_LAST: "user", _OTHER: "assistant"}


def build(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example per answer; the relevant sentences stand before the last answer."""
    said = row.values.get(mapping.get("turns", "turns"))
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        raise DataError(f"{row.place}: turns is not a list of texts")
    roles = resolve_roles((_LAST, _OTHER), {**_ROLES, **source.roles}, row.place)
    speakers = [_LAST if (len(said) - place) % 2 else _OTHER for place in range(len(said))]
    turns = [Message(roles[who], one) for who, one in zip(speakers, said, strict=True)]
    answers = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    knowledge = _relevant(row, mapping)
    if answers and knowledge:
        turns.insert(answers[-1], Message("knowledge", knowledge))
    topic = row.values.get(mapping.get("topic", "topic"))
    return one_per_answer(describe("", topic if isinstance(topic, str) else "", "Topic"), turns)


def _relevant(row: RawRow, mapping: Mapping[str, str]) -> str:
    """Join the sentences marked relevant; several annotators may have marked the same one."""
    column = mapping.get("annotated_sentences", "annotated_sentences")
    sentences = row.values.get(column)
    if not isinstance(sentences, list):
        raise DataError(f"{row.place}: {column} is not a list of sentences")
    found: dict[str, None] = {}
    for one in sentences:
        if isinstance(one, dict) and one.get("relevance") == "relevant":
            label = one.get("label")
            if not isinstance(label, str):
                raise not_text(row, f"label of {column}", label)
            found.setdefault(label.rpartition(_MARK)[2].strip())
    return " ".join(found)


SHAPES = (
    Shape(
        "persona",
        ("turns", "annotated_sentences"),
        build,
        optional=("topic",),
        about="the one who speaks last is the user, the other answers (`roles:` changes that), and "
        "the relevant sentences stand before the last answer",
    ),
)
