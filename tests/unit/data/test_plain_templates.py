"""Prompts and answers in the named plain templates, and text as it is."""

from __future__ import annotations

import pytest

from tunebook.data.render import choose_renderer, prompt_form
from tunebook.data.tokenize import tokenize
from tunebook.errors import DataError
from tunebook.records import Example, Message

QA = Example("x#1", "d", (Message("user", "hope"), Message("assistant", "Wait for it.")))


def parts(codec, template, one, stage="sft", train_all=False):
    """Give the text that carries no loss and the text that does."""
    rendered = choose_renderer(template, "completion", codec, stage).render(one)
    row = tokenize([rendered], codec, train_all=train_all)
    prompt = codec.decode(row.ids[~row.target].tolist())
    return prompt, codec.decode(row.ids[row.target].tolist())


def test_lines_are_a_keyword_with_a_colon_then_the_saying(codec):
    assert parts(codec, "lines", QA) == ("hope:", " Wait for it.<|endoftext|>")


def test_chat_names_the_speakers(codec):
    assert parts(codec, "chat", QA) == ("User: hope\nAssistant:", " Wait for it.<|endoftext|>")


@pytest.mark.parametrize("template", ["alpaca", "lines", "qa", "chat", "persona", "pgn", "none"])
def test_the_form_of_a_prompt_is_what_a_question_is_written_in(codec, template):
    form = prompt_form(template)
    assert form is not None
    assert parts(codec, template, QA)[0] == form.replace("{prompt}", "hope")
    assert prompt_form("model") is None


def test_none_puts_nothing_between_prompt_and_answer(codec):
    rendered = choose_renderer("none", "completion", codec, "sft").render(QA)
    assert [s.text for s in rendered.segments] == ["hopeWait for it."]


def test_alpaca_has_the_wording_of_the_alpaca_set(codec):
    assert parts(codec, "alpaca", QA) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nhope\n\n### Response:\n",
        "Wait for it.<|endoftext|>",
    )


def test_alpaca_with_an_input_says_so(codec):
    one = Example(
        "x#1", "d", (Message("user", "Add."), Message("input", "1 2"), Message("assistant", "3"))
    )
    assert parts(codec, "alpaca", one)[0].endswith(
        ", paired with an input that provides further context. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    )


def test_many_turns_of_the_plain_chat_template_each_end_with_the_end_token(codec):
    one = Example(
        "x#1",
        "d",
        (
            Message("system", "Be brief."),
            Message("user", "a"),
            Message("assistant", "b"),
            Message("user", "c"),
            Message("assistant", "d"),
        ),
    )
    rendered = choose_renderer("chat", "chat", codec, "sft").render(one)
    row = tokenize([rendered], codec, train_all=False)
    text = codec.decode(row.ids.tolist())
    assert text == (
        "System: Be brief.\nUser: a\nAssistant: b<|endoftext|>\nUser: c\nAssistant: d<|endoftext|>"
    )
    assert codec.decode(row.ids[row.target].tolist()) == " b<|endoftext|> d<|endoftext|>"


def test_many_turns_are_refused_by_a_template_for_one_answer(codec):
    turns = (Message("user", "a"), Message("assistant", "b")) * 2
    with pytest.raises(DataError, match=r"x#1: template alpaca takes one answer.*template: chat"):
        choose_renderer("alpaca", "chat", codec, "sft").render(Example("x#1", "d", turns))


def test_special_tokens_in_the_text_of_a_row_stay_text(codec):
    one = Example(
        "x#1", "d", (Message("user", "<|endoftext|>"), Message("assistant", "a<|endoftext|>b"))
    )
    rendered = choose_renderer("chat", "chat", codec, "sft").render(one)
    row = tokenize([rendered], codec, train_all=False)
    assert (row.ids == codec.eos_id).sum() == 1
    assert codec.decode(row.ids[row.target].tolist()) == " a<|endoftext|>b<|endoftext|>"


def test_training_on_all_leaves_out_only_the_first_token(codec):
    rendered = choose_renderer("chat", "chat", codec, "sft").render(QA)
    row = tokenize([rendered], codec, train_all=True)
    assert row.target.tolist() == [False] + [True] * (len(row.ids) - 1)


def test_text_ends_with_the_end_token_and_scores_its_bytes(codec):
    one = Example("x#1", "d", (Message("text", "Schnee: 雪."),))
    rendered = choose_renderer("auto", "text", codec, "cpt").render(one)
    row = tokenize([rendered], codec, train_all=True)
    assert codec.decode(row.ids.tolist()) == "Schnee: 雪.<|endoftext|>"
    assert int(row.n_bytes.sum()) == len("Schnee: 雪.".encode())


def test_a_token_that_joins_prompt_and_answer_is_trained_and_noticed(codec):
    one = Example("x#1", "d", (Message("user", "The qui"), Message("assistant", "ck brown fox")))
    rendered = choose_renderer("none", "completion", codec, "sft").render(one)
    row = tokenize([rendered], codec, train_all=False)
    assert row.shared
    assert codec.decode(row.ids[row.target].tolist()) == " quick brown fox<|endoftext|>"


@pytest.mark.parametrize("template", ["alpaca", "lines", "qa", "chat", "persona", "pgn", "none"])
def test_a_prompt_asked_alone_is_how_the_row_begins(codec, template):
    renderer = choose_renderer(template, "completion", codec, "sft")
    assert renderer.prompt(QA) == renderer.render(QA).segments[0].text[: len(renderer.prompt(QA))]
    assert renderer.prompt_ids(QA) == renderer.prompt_ids("hope")
    assert codec.decode(renderer.prompt_ids(QA)) == renderer.prompt(QA)


def test_a_lines_prompt_with_a_colon_is_taken_as_it_is(codec):
    renderer = choose_renderer("lines", "lines", codec, "sft")
    assert codec.decode(renderer.prompt_ids("hope:")) == "hope:"
    assert codec.decode(renderer.prompt_ids("hope")) == "hope:"


def test_a_tokenizer_without_end_token_is_refused(make_codec):
    with pytest.raises(DataError, match="has no end token"):
        choose_renderer("alpaca", "alpaca", make_codec(eos=None), "sft")


def test_the_model_template_of_a_model_without_one_is_refused(codec):
    with pytest.raises(DataError, match=r"template: model needs a chat template"):
        choose_renderer("model", "chat", codec, "sft")


def test_a_template_for_answers_is_refused_for_plain_text(codec):
    with pytest.raises(DataError, match=r"template: alpaca is for prompts and responses"):
        choose_renderer("alpaca", "text", codec, "cpt")


PERSONA = Example(
    "x#1.2",
    "d",
    (
        Message("system", "Persona: I am a pilot."),
        Message("system", "Scenario: In a bar."),
        Message("user", "Hello"),
        Message("assistant", "Hi.", trained=False),
        Message("user", "How high?"),
        Message("knowledge", "Jets fly at 11 km."),
        Message("assistant", "Eleven kilometres."),
    ),
    window_from=2,
)


def test_a_persona_stands_first_and_knowledge_before_the_answer(codec):
    rendered = choose_renderer("auto", "persona", codec, "sft").render(PERSONA)
    row = tokenize([rendered], codec, train_all=False)
    assert codec.decode(row.ids.tolist()) == (
        "Persona: I am a pilot.\nScenario: In a bar.\nUser: Hello\nAssistant: Hi.<|endoftext|>\n"
        "User: How high?\nRelevant Knowledge: Jets fly at 11 km.\nAssistant: Eleven kilometres."
        "<|endoftext|>"
    )


@pytest.mark.parametrize("template", ["persona", "chat"])
def test_only_trained_answers_and_their_end_tokens_carry_loss(codec, template):
    prompt, target = parts(codec, template, PERSONA)
    assert target == " Eleven kilometres.<|endoftext|>"
    assert "Assistant: Hi.<|endoftext|>\nUser" in prompt


def test_a_talk_that_the_answerer_begins_has_no_empty_user_line(codec):
    one = Example(
        "x#1", "d", (Message("system", "Persona: Shy."), Message("assistant", "Who is there?"))
    )
    assert parts(codec, "persona", one) == (
        "Persona: Shy.\nAssistant:",
        " Who is there?<|endoftext|>",
    )


def test_a_question_and_an_answer_are_named(codec):
    assert parts(codec, "qa", QA) == ("Question: hope\nAnswer:", " Wait for it.<|endoftext|>")
    assert choose_renderer("auto", "qa", codec, "sft").name == "qa"


def test_knowledge_is_written_in_every_template(codec):
    one = Example(
        "x#1",
        "d",
        (Message("user", "q"), Message("knowledge", "a fact"), Message("assistant", "r")),
    )
    for template in ("alpaca", "lines", "qa", "chat", "persona", "none"):
        assert "Relevant Knowledge: a fact" in parts(codec, template, one)[0]
