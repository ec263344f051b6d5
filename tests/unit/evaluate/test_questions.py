"""Questions are read from a file of them, or from training data of any format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunebook.errors import DataError
from tunebook.evaluate.questions import Question, read_questions
from tunebook.records import Message


def write(folder: Path, *rows: object) -> str:
    path = folder / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_question_has_what_its_row_says(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "You are a cook."}, {"role": "user", "content": "Hi"}]
    found = read_questions(
        write(
            tmp_path,
            {"id": "a", "prompt": "2 + 2?", "reference": "4", "group": "in", "tags": ["sums"]},
            {"messages": turns},
        )
    )
    assert found[0] == Question("a", (Message("user", "2 + 2?"),), "4", "in", ("sums",))
    assert [message.role for message in found[1].messages] == ["system", "user"]
    assert found[1].reference is None


def test_training_data_is_asked_for_its_last_answers(tmp_path: Path) -> None:
    [found] = read_questions(
        write(tmp_path, {"instruction": "Add.", "input": "1 and 2", "output": "3"})
    )
    assert found.text == "Add.\n\n1 and 2"
    assert found.reference == "3"


@pytest.mark.parametrize(
    "row",
    [
        {
            "messages": [
                {"role": "user", "content": "2 + 2?"},
                {"role": "assistant", "content": "4"},
            ]
        },
        {"prompt": "2 + 2?", "completion": "4"},
    ],
)
def test_training_rows_that_look_like_questions_keep_their_answer_from_the_model(
    tmp_path: Path, row: object
) -> None:
    [found] = read_questions(write(tmp_path, row))
    assert found.text == "2 + 2?"
    assert found.reference == "4"


def test_the_hash_is_of_what_is_asked_and_what_the_data_answers() -> None:
    asked = (Message("user", "2 + 2?"),)
    same = Question("a", asked, "4").hash
    assert Question("b", asked, "4", "in", ("sums",)).hash == same
    assert Question("a", asked, "5").hash != same
    assert Question("a", (Message("system", "2 + 2?"),), "4").hash != same


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"prompt": "a", "tag": "b"}], "a question has no 'tag'"),
        ([{"questoin": "a"}], "no question, which has `prompt` or `messages`"),
        ([{"prompt": " "}], "`prompt` is ' '; write a text"),
        ([{"messages": [{"role": "boss", "content": "x"}]}], "a message is {role, content}"),
        ([{"prompt": "a", "id": 1}, {"prompt": "b", "id": 1}], "two questions have the id '1'"),
        ([{"prompt": "a", "tags": "sums"}], "write a list of words"),
    ],
)
def test_what_is_no_question_is_named(tmp_path: Path, rows: list[object], sentence: str) -> None:
    with pytest.raises(DataError) as found:
        read_questions(write(tmp_path, *rows))
    assert sentence in str(found.value)
