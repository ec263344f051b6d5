"""Whether an answer says a fact: one that a `knowledge` turn states, or one from memory."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tunebook.errors import DataError
from tunebook.evaluate.probes import MARGINS, decided
from tunebook.evaluate.questions import Question, read_questions
from tunebook.records import Comparison, Estimate, ItemScore
from tunebook.statistics.compare import compare
from tunebook.statistics.estimate import proportion_estimate

MATCH = "any fact, case-folded, in whole words"
"""How an answer is searched, as it is written down."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of answers of one set of weights that say the fact, given it and from memory.

    `gain` is given - memory; `given_over` and `memory_over` are these weights - the first ones,
    None for those.
    """

    given: Estimate
    memory: Estimate
    gain: Comparison
    given_over: Comparison | None = None
    memory_over: Comparison | None = None


def says(answer: str, facts: Iterable[str]) -> bool:
    """Tell whether an answer holds one of some words or phrases.

    Case, Unicode compatibility forms and kinds of white space make no difference; words are whole,
    and so are numbers: `3` stands in `3.` and not in `3.5`.
    """
    said = _folded(answer)
    return any(_pattern(fact).search(said) for fact in facts)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _pattern(fact: str) -> re.Pattern[str]:
    inside_number = r"(?!(?<=\d[.,])\d)", r"(?!(?<=\d)[.,]\d)"
    found = re.escape(_folded(fact))
    return re.compile(rf"(?<!\w){inside_number[0]}{found}(?!\w){inside_number[1]}")


def read_fact_questions(path: str) -> list[Question]:
    """Read questions with `facts`, one of which the knowledge turn states and no other turn says.

    Raises DataError for a question that could not tell stated from remembered.
    """
    found = read_questions(path)
    for question in found:
        stated = " ".join(m.content for m in question.messages if m.role == "knowledge")
        elsewhere = [m for m in question.messages if m.role != "knowledge"]
        place = f"{path}: question {question.id}"
        if not question.facts:
            raise DataError(f"{place} has no `facts`; list what an answer that is right must say")
        if not says(stated, question.facts):
            raise DataError(
                f"{place} has no knowledge turn that says {' or '.join(map(repr, question.facts))};"
                " state the fact in a message of the role knowledge"
            )
        if told := [m.role for m in elsewhere if says(m.content, question.facts)]:
            raise DataError(
                f"{place}: a {told[0]} turn says the fact, so it would not be left to memory; "
                "say it in the knowledge turn alone"
            )
        if not any(m.role == "user" for m in elsewhere):
            raise DataError(f"{place} asks nothing without its knowledge turn; add a user turn")
    return found


def from_memory(question: Question) -> Question:
    """Leave the knowledge turns of a question out."""
    return replace(question, messages=tuple(m for m in question.messages if m.role != "knowledge"))


def measure_facts(
    rows: Mapping[str, tuple[Sequence[ItemScore], Sequence[ItemScore]]],
) -> dict[str, Shares]:
    """Give the shares of each of the weights from its rows of 0 or 1, given and from memory.

    Differences pair questions, and are adjusted for their number (Holm).
    """
    margin = MARGINS["share"]
    first = next(iter(rows))
    pairs = [(given, memory) for given, memory in rows.values()]
    for name, own in rows.items():
        if name != first:
            pairs += zip(own, rows[first], strict=True)
    compared = decided([compare(a, b, margin=margin) for a, b in pairs])
    gains, over = compared[: len(rows)], compared[len(rows) :]
    found: dict[str, Shares] = {}
    for place, (name, own) in enumerate(rows.items()):
        given, memory = (proportion_estimate(each) for each in own)
        both = over[2 * place - 2 : 2 * place] if place else (None, None)
        found[name] = Shares(given, memory, gains[place], both[0], both[1])
    return found
