"""A talk that is too long loses its oldest turns, and never its persona or its last question."""

from __future__ import annotations

import pytest

from tunebook.data.prepare import prepare
from tunebook.recipe.tree import Recipe

TALK = {
    "persona": "A patient gardener.",
    "turns": [
        turn
        for n in range(6)
        for turn in (
            {"speaker": "user", "text": f"Question {n} about roses and their many thorns?"},
            {"speaker": "assistant", "text": f"Answer {n}."},
        )
    ],
}


@pytest.fixture
def shown(tmp_path, codec, write):
    """Give a function that prepares one talk and returns its rows as text, with the account."""

    def run(talk: dict[str, object], max_seq_len: int):
        recipe = Recipe(
            name="r",
            model="m",
            data=[{"path": str(write("talk.jsonl", [talk]))}],
            max_seq_len=max_seq_len,
            validation={"fraction": 0},
        )
        ready = prepare(recipe, codec, tmp_path / "cache", lambda text: None)
        shards = ready.train.sources[0]
        rows = [shards.example(i) for i in range(len(shards))]
        return [codec.decode(row.ids) for row in rows], rows, ready

    return run


def test_the_oldest_turns_go_first_and_the_persona_stays(shown):
    whole, *_ = shown(TALK, 10_000)
    longest = max(len(row.ids) for row in shown(TALK, 10_000)[1])
    texts, rows, ready = shown(TALK, longest - 40)
    assert len(texts) == len(whole) == 6
    last = texts[-1]
    assert "A patient gardener." in last
    assert "Question 5" in last
    assert "Answer 5." in last
    assert "Question 0" not in last
    assert all(len(row.ids) <= longest - 40 for row in rows)
    assert texts[0] == whole[0]
    assert any("of their oldest turns left out to fit" in note for note in ready.notes)


def test_the_question_that_is_answered_is_never_left_out(shown):
    long = {**TALK, "turns": [*TALK["turns"][:2], {"speaker": "user", "text": "Why? " * 60}]}
    long["turns"].append({"speaker": "assistant", "text": "Because."})
    first = shown(long, 10_000)[1][0]
    texts, _, ready = shown(long, len(first.ids))
    assert ready.accounts[0].dropped == {"overlong": 1}
    assert not any("Because." in text for text in texts)


def test_a_persona_is_prompt_enough_for_an_answer_that_opens_a_talk(shown):
    talk = {"persona": "A gardener.", "turns": [{"speaker": "assistant", "text": "Hello there!"}]}
    texts, rows, _ = shown(talk, 1000)
    assert len(texts) == 1
    assert "A gardener." in texts[0]
    assert any(rows[0].target)
