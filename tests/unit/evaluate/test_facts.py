"""An answer says a fact in whole words, and a question must leave it to the knowledge turn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunebook.errors import DataError
from tunebook.evaluate.facts import from_memory, measure_facts, read_fact_questions, says
from tunebook.records import ItemScore

USER = {"role": "user", "content": "How old is the mill?"}
STATED = {"role": "knowledge", "content": "The mill is 212 years old."}


@pytest.mark.parametrize(
    ("answer", "fact", "found"),
    [
        ("It has SAINT\n John's bell.", "Saint John", True),
        ("STRASSE 5", "straße", True),
        ("a windmill", "mill", False),
        ("3 or so.", "3", True),
        ("about 3.5", "3", False),
        ("about 3.5", "5", False),
        ("3.", "3", True),
        ("C++, of course", "c++", True),
        ("c*p", "c.p", False),
    ],
)
def test_a_fact_is_found_in_whole_words_of_any_case(answer: str, fact: str, found: bool) -> None:
    assert says(answer, ["nothing of the kind", fact]) is found


def test_the_question_from_memory_is_the_same_without_its_knowledge_turn(tmp_path: Path) -> None:
    [found] = read_fact_questions(write(tmp_path, [USER, STATED], ["212"]))
    assert [m.role for m in from_memory(found).messages] == ["user"]
    [other] = read_fact_questions(write(tmp_path, [USER, STATED], ["212 years"]))
    assert found.hash != other.hash


@pytest.mark.parametrize(
    ("messages", "facts", "match"),
    [
        ([USER, STATED], [], "has no `facts`"),
        ([USER, STATED], ["213"], "no knowledge turn that says '213'"),
        ([{"role": "system", "content": "You are 212."}, USER, STATED], ["212"], "a system turn"),
        ([STATED], ["212"], "asks nothing without"),
        ([USER, STATED], "212", "`facts` is '212'; write a list"),
    ],
)
def test_a_question_that_cannot_tell_stated_from_remembered_is_refused(
    tmp_path: Path, messages: list[object], facts: object, match: str
) -> None:
    with pytest.raises(DataError, match=match):
        read_fact_questions(write(tmp_path, messages, facts))


def test_each_of_the_weights_is_held_against_its_memory_and_against_the_first() -> None:
    def rows(n_right: int) -> list[ItemScore]:
        return [ItemScore(f"q{i}", f"h{i}", "x", float(i < n_right)) for i in range(50)]

    found = measure_facts({"base": (rows(10), rows(10)), "final": (rows(40), rows(5))})
    assert (found["final"].given.score, found["final"].memory.score) == (0.8, 0.1)
    assert found["final"].gain.difference == pytest.approx(0.7)
    assert found["final"].gain.verdict == "different"
    assert found["base"].gain.difference == 0
    assert found["base"].given_over is None
    over, memory = found["final"].given_over, found["final"].memory_over
    assert over is not None
    assert memory is not None
    assert (over.difference, memory.difference) == pytest.approx((0.6, -0.1))


def write(folder: Path, messages: object, facts: object) -> str:
    path = folder / "facts.jsonl"
    path.write_text(json.dumps({"id": "a", "messages": messages, "facts": facts}) + "\n")
    return str(path)
