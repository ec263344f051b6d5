"""Each shape of rows becomes the messages it should, and files not for training are refused."""

from __future__ import annotations

import json
import pickle
from typing import get_args

import pytest

from tunebook.cli.data import show
from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.formats import FORMATS, SHAPES
from tunebook.data.sources import locate
from tunebook.errors import DataError
from tunebook.recipe.tree import FormatName, Recipe, Source


def found(path, **settings):
    source = Source(path=str(path), **settings)
    return detect(locate(source.path), source)


def examples(path, stage="sft", **settings):
    source = Source(path=str(path), **settings)
    located = locate(source.path)
    return [r.example for r in Reader(located, detect(located, source), source, stage).examples()]


def said(example):
    """Write the messages of an example with a star on answers that are context."""
    return [
        (m.role if m.trained or m.role != "assistant" else "assistant*", m.content)
        for m in example.messages
    ]


def test_every_format_can_be_named_in_a_run_file_and_at_a_terminal():
    options = {
        param.name: param.type.choices
        for param in show.command.params
        if param.name in ("data_format", "template")
    }
    assert {"auto", *FORMATS} == set(get_args(FormatName)) == set(options["data_format"])
    templates = get_args(Recipe.model_fields["template"].annotation)
    assert set(templates) == set(options["template"])


def test_formats_travel_to_worker_processes():
    assert pickle.loads(pickle.dumps(SHAPES)) == SHAPES  # noqa: S301  our own functions by name


# --- instructions and questions -----------------------------------------------------------------


def test_a_format_that_is_named_reads_what_it_reads_when_it_is_found(write):
    rows = [{"question": "How fast?", "answer": "3", "unit": "m/s", "source": "a"}]
    path = write("a.json", rows)
    for named in ("auto", "qa"):
        detected = found(path, format=named)
        assert detected.reason.endswith("not read: source")
        (one,) = examples(path, format=named)
        assert one.messages[1].content == "3 m/s"
    assert found(path, format="qa").reason.startswith("as named; rows have question, answer and")


def test_a_row_without_a_key_says_how_to_name_it_on_the_command_line_too(write):
    path = write("a.json", [{"question": "q", "reply": "a"}])
    with pytest.raises(DataError, match=r"`columns: \{answer: your_name\}` \(on the .*`--column a"):
        found(path, format="qa")


def test_response_is_read_as_output_when_there_is_no_output(write):
    path = write("a.json", [{"instruction": "Greet.", "input": "", "response": "Hi."}])
    detected = found(path)
    assert (detected.format, dict(detected.mapping)) == ("alpaca", {"output": "response"})
    assert detected.reason == "rows have instruction and response (as output)"
    assert said(examples(path)[0]) == [("user", "Greet."), ("assistant", "Hi.")]


def test_a_nested_task_is_one_example_per_instance(write):
    instances = [{"input": "1", "output": "one"}, {"input": "", "output": "two"}]
    path = write("a.jsonl", [{"id": "t", "instruction": "Say.", "instances": instances}])
    assert found(path).format == "alpaca"
    first, second = examples(path)
    assert said(first) == [("user", "Say."), ("input", "1"), ("assistant", "one")]
    assert said(second) == [("user", "Say."), ("assistant", "two")]
    assert (first.id, second.id) == ("a#1.1", "a#1.2")
    assert first.document == second.document


def test_a_nested_task_without_an_output_is_named(write):
    path = write("a.jsonl", [{"instruction": "Say.", "instances": [{"input": "1"}]}])
    with pytest.raises(DataError, match=r"line 1: instances, instance 1 needs output"):
        examples(path)


def test_questions_and_answers_are_read_and_what_is_not_read_is_said(write):
    path = write("a.jsonl", [{"question": "q", "answer": "a", "topic": "t"}])
    assert found(path).format == "qa"
    assert found(path).reason == "rows have question and answer; not read: topic"
    assert said(examples(path)[0]) == [("user", "q"), ("assistant", "a")]


def test_a_unit_stands_behind_the_answer(write):
    rows = [{"question": "q", "answer": " 4.8", "unit": "m"}, {"question": "q", "answer": "5"}]
    rows[1]["unit"] = ""
    got = examples(write("a.jsonl", rows))
    assert [e.messages[-1].content for e in got] == ["4.8 m", "5"]


def test_a_paper_is_its_title_an_empty_line_and_its_abstract(write):
    path = write("a.jsonl", [{"id": "1", "title": "On Mars", "abstract": "It is red."}])
    assert found(path).format == "text"
    assert said(examples(path, stage="cpt")[0]) == [("text", "On Mars\n\nIt is red.")]


def test_marked_keyword_lines_of_a_table_lose_their_marks(write):
    end = "<|endoftext|>"
    path = write("a.csv", f'"",text\n0,{end}hope: It is small.{end}\n1,"{end}love: a, b{end}"\n')
    assert found(path).format == "lines"
    assert [said(e) for e in examples(path)] == [
        [("user", "hope"), ("assistant", "It is small.")],
        [("user", "love"), ("assistant", "a, b")],
    ]
    assert [m.content for e in examples(path, stage="cpt") for m in e.messages] == [
        "hope: It is small.",
        "love: a, b",
    ]


def test_a_text_that_has_a_colon_is_no_keyword_line(write):
    assert found(write("a.jsonl", [{"text": "hope: It is small."}])).format == "text"


# --- personas -----------------------------------------------------------------------------------

EPISODE = {
    "persona": ["I am a pilot.", "I like tea."],
    "scenario": "In a bar.",
    "turns": [
        {"speaker": "user", "text": "Hello"},
        {"speaker": "assistant", "text": "Hi."},
        {"speaker": "user", "text": "How high?"},
        {"speaker": "knowledge", "text": "Jets fly at 11 km."},
        {"speaker": "assistant", "text": "Eleven."},
        {"speaker": "user", "text": "Bye"},
    ],
}


def test_a_talk_is_one_example_per_answer_with_earlier_answers_as_context(write):
    first, second = examples(write("a.jsonl", [EPISODE]))
    head = [("system", "Persona: I am a pilot. I like tea."), ("system", "Scenario: In a bar.")]
    assert said(first) == [*head, ("user", "Hello"), ("assistant", "Hi.")]
    assert said(second) == [
        *head,
        ("user", "Hello"),
        ("assistant*", "Hi."),
        ("user", "How high?"),
        ("knowledge", "Jets fly at 11 km."),
        ("assistant", "Eleven."),
    ]
    assert (first.window_from, second.window_from) == (None, 2)
    assert first.document == second.document


def test_speakers_are_what_the_run_file_says(write):
    turns = [{"from": who, "value": who} for who in ("Ann", "Bob", "Fact", "Ann", "Bob")]
    path = write("a.jsonl", [{"turns": turns}])
    with pytest.raises(
        DataError, match=r"who answers is not clear with the speakers Ann, Bob, Fact"
    ):
        found(path)
    roles = {"Ann": "assistant", "Bob": "user", "Fact": "knowledge"}
    got = examples(path, roles=roles)
    assert [e.messages[-1].content for e in got] == ["Ann", "Ann"]
    assert "Ann answers Bob (`roles:` changes that); Fact is knowledge" in (
        found(path, roles=roles).reason
    )


def test_of_two_strangers_the_one_who_speaks_second_answers(write):
    path = write("a.jsonl", [{"turns": [{"speaker": w, "text": w} for w in ("Ann", "Bob", "Ann")]}])
    assert "Bob answers Ann" in found(path).reason
    assert [e.messages[-1].content for e in examples(path)] == ["Bob"]


def test_one_declared_speaker_is_enough(write):
    path = write("a.jsonl", [{"turns": [{"speaker": w, "text": w} for w in ("Ann", "Bob", "Ann")]}])
    got = examples(path, roles={"Ann": "assistant"})
    assert [e.messages[-1].content for e in got] == ["Ann", "Ann"]


def test_turns_of_one_speaker_in_a_row_are_one_turn(write):
    turns = [{"speaker": s, "text": t} for s, t in (("user", "a"), ("user", "b"), ("bot", "c"))]
    assert said(examples(write("a.jsonl", [{"turns": turns}]))[0]) == [
        ("user", "a\nb"),
        ("assistant", "c"),
    ]


def test_personas_by_speaker_give_the_one_of_who_answers(write):
    row = {
        "personas": {"user": "a cook", "bot": ["a pilot", "tall"]},
        "turns": [{"speaker": "user", "text": "a"}, {"speaker": "bot", "text": "b"}],
    }
    assert said(examples(write("a.jsonl", [row]))[0])[0] == ("system", "Persona: a pilot tall")


def test_a_talk_without_an_answer_is_one_example_without_a_target(write):
    rows = [EPISODE, {"turns": [{"speaker": "user", "text": "Anyone?"}]}]
    got = examples(write("a.jsonl", rows))
    assert [e.id for e in got] == ["a#1.1", "a#1.2", "a#2"]
    assert said(got[-1]) == [("user", "Anyone?")]


def test_agents_of_a_file_of_id_to_talk_have_roles(write):
    talk = {"content": [{"message": f"m{i}", "agent": f"agent_{1 + i % 2}"} for i in range(3)]}
    path = write("a.json", json.dumps({"t_1": talk, "t_2": talk}))
    assert found(path).format == "persona"
    assert [said(e) for e in examples(path)] == [[("user", "m0"), ("assistant", "m1")]] * 2


def test_relevant_sentences_stand_before_the_last_answer_of_the_one_who_knows(write):
    def sentence(text, relevance):
        return {"label": f"Swimming <knowledge_separator> {text}", "relevance": relevance}

    sentences = [
        sentence("It is fun.", "relevant"),
        sentence("It is fun.", "relevant"),
        sentence("Cats hide.", "notRelevant"),
        sentence("It is wet.", "relevant"),
    ]
    row = {"turns": ["a", "b", "c"], "topic": "Swimming", "annotated_sentences": sentences}
    (got,) = examples(write("a.json", [row]))
    assert said(got) == [
        ("system", "Topic: Swimming"),
        ("user", "a"),
        ("knowledge", "It is fun. It is wet."),
        ("assistant", "b"),
    ]
    other = examples(
        write("b.json", [row]), roles={"last speaker": "assistant", "other speaker": "user"}
    )
    assert [e.messages[-1].content for e in other] == ["a", "c"]


def test_a_message_its_knowledge_and_the_answer_are_one_example(write):
    row = {"knowledge": "k", "message": "m", "response": "r", "begin_label": "Generic"}
    assert said(examples(write("a.jsonl", [row]))[0]) == [
        ("user", "m"),
        ("knowledge", "k"),
        ("assistant", "r"),
    ]


def test_a_persona_chat_has_the_persona_of_who_answers(write):
    names = "user 1 personas,user 2 personas,Best Generated Conversation\n"
    talk = '"User 1: Hi\n\nUser 2: Hello\nthere\n*User 1:* Bye\nUser 2: Bye"'
    path = write("a.csv", f'{names}I cook.,"I fly.\nI run.",{talk}\n,,nobody speaks\n')
    first, second, silent = examples(path)
    assert said(first) == [
        ("system", "Persona: I fly. I run."),
        ("user", "Hi"),
        ("assistant", "Hello\nthere"),
    ]
    assert said(second)[-2:] == [("user", "Bye"), ("assistant", "Bye")]
    assert said(silent) == [("user", "nobody speaks")]
    swapped = examples(path, roles={"User 1": "assistant", "User 2": "user"})
    assert said(swapped[0]) == [("system", "Persona: I cook."), ("assistant", "Hi")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"turns": [{"speaker": "user", "text": 3}]}, "text of turn 1 is 3, not a text"),
        (
            {"turns": [{"speaker": "user", "text": "a"}, {"text": "b"}]},
            r"turn 2 of turns needs a speaker \(speaker, role",
        ),
        (
            {"turns": [{"speaker": "user", "text": "a"}], "persona": 3},
            "persona is 3, not a text",
        ),
        ({"turns": ["a"], "annotated_sentences": "b"}, "annotated_sentences is not a list"),
    ],
)
def test_a_mistake_in_a_talk_is_named(write, row, message):
    with pytest.raises(DataError, match=message):
        examples(write("a.jsonl", [row]))


# --- refused by name ----------------------------------------------------------------------------

REFUSED = [
    (
        "a.json",
        [{"instruction": "i", "input": "", "output": "o", "chosen": "a", "rejected": "b"}],
        "these are preference pairs",
        {"format": "alpaca", "columns": {"output": "chosen"}},
    ),
    (
        "a.json",
        [{"instruction": "i", "output": "o", "generator": "m", "dataset": "d"}],
        "these are a model's answers to be judged",
        {"format": "alpaca"},
    ),
    (
        "a.json",
        [{"instruction": "i", "output_1": "a", "output_2": "b", "preference": 1}],
        "these are a judge's verdicts",
        {"format": "alpaca", "columns": {"output": "output_1"}},
    ),
    (
        "a.tsv",
        "eco\tname\tpgn\nA00\tAmar Opening\t1. Nh3\n",
        "this is a table of chess openings",
        {"format": "completion", "columns": {"prompt": "name", "completion": "pgn"}},
    ),
    ("a.csv", "PuzzleId,FEN,Moves\na,b,e2e4 e7e5\n", "these are chess puzzles", None),
]


@pytest.mark.parametrize(("name", "content", "what", "way_out"), REFUSED)
def test_what_is_not_for_training_is_refused_by_name_and_the_way_out_works(
    write, name, content, what, way_out
):
    path = write(name, content)
    with pytest.raises(DataError, match=what) as caught:
        found(path)
    assert caught.value.exit_code == 2
    if way_out is not None:
        assert f"`format: {way_out['format']}`" in str(caught.value)
        assert examples(path, **way_out)[0].messages[-1].role == "assistant"
