"""A plain template written in Jinja gives the token ids that training gave."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from tunebook.data.render import PlainRenderer, choose_renderer
from tunebook.data.tokenize import tokenize
from tunebook.models.tokenizer import Codec, load_tokenizer
from tunebook.records import Example, Message

MANY_TURNS = ("chat", "persona")
ONE_ANSWER = ("alpaca", "lines", "qa", "pgn", "none")
OTHERS = ("system", "user", "input", "knowledge")

WORDS = st.text(
    st.one_of(st.sampled_from("ab .:#\n\t'\"\\{%}é日🧊"), st.characters(exclude_categories=["Cs"])),
    max_size=12,
).filter(lambda text: not {"<", "["} & {*text})  # no special token of the codec
ANSWERS = WORDS.filter(lambda text: not text.startswith(" "))


def turns(many: bool) -> st.SearchStrategy[list[Message]]:
    """Build messages up to an answer: several answers where the template takes them."""
    other = st.builds(Message, st.sampled_from(OTHERS), WORDS)
    answer = st.builds(Message, st.just("assistant"), ANSWERS)
    before = st.lists(st.one_of(other, answer) if many else other, max_size=7)
    return st.builds(lambda said, last: [*said, last], before, answer)


def talk(*said: tuple[str, str]) -> list[Message]:
    return [Message(role, text) for role, text in said]


def by_template(codec: Codec, template: str, messages: Sequence[Message], ask: bool) -> list[int]:
    """Tokenize as a server does: the last answer left out where it is to be written."""
    renderer = choose_renderer(template, "completion", codec, "sft")
    assert isinstance(renderer, PlainRenderer)
    said = messages[:-1] if ask else messages
    found = codec.tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in said],
        chat_template=renderer.chat_template(),
        add_generation_prompt=ask,
    )
    return list(found["input_ids"])


def by_training(codec: Codec, template: str, messages: Sequence[Message], ask: bool) -> list[int]:
    renderer = choose_renderer(template, "completion", codec, "sft")
    example = Example("x#1", "d", tuple(messages))
    if ask:
        return renderer.prompt_ids(example)
    return [int(i) for i in tokenize([renderer.render(example)], codec, train_all=False).ids]


@pytest.mark.parametrize("ask", [True, False])
@pytest.mark.parametrize("template", [*MANY_TURNS, *ONE_ANSWER])
def test_the_ids_are_those_of_training(codec: Codec, template: str, ask: bool) -> None:
    @settings(max_examples=40, deadline=None)
    @given(turns(template in MANY_TURNS))
    def holds(messages: list[Message]) -> None:
        if ask and len(messages) == 1:
            return  # a server is never asked nothing
        found = by_template(codec, template, messages, ask)
        assert found == by_training(codec, template, messages, ask)

    holds()


@pytest.mark.parametrize("template", [*MANY_TURNS, *ONE_ANSWER])
def test_the_embedded_model_is_asked_in_the_same_tokens(template: str) -> None:
    tiny = load_tokenizer("tunebook/tiny")
    said = talk(("system", "Be brief."), ("user", "hope"), ("knowledge", "It is dark."))
    if template in MANY_TURNS:
        said += talk(("assistant", "Wait."), ("user", "how long?"), ("user", "and why?"))
    said += talk(("assistant", "Until dawn."))
    for ask in (True, False):
        assert by_template(tiny, template, said, ask) == by_training(tiny, template, said, ask)


def test_an_answer_that_a_server_hands_back_is_written_as_in_training(codec: Codec) -> None:
    """The space before an answer is the model's own first token, so servers hand it back."""
    said = talk(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    back = [*said[:1], Message("assistant", " b"), *said[2:]]
    assert by_template(codec, "chat", back, True) == by_training(codec, "chat", said, True)


def test_a_special_token_in_a_message_is_one_to_a_server_and_text_to_training(codec: Codec) -> None:
    said = talk(("user", "a<|endoftext|>b"), ("assistant", "c"))
    assert codec.eos_id in by_template(codec, "chat", said, True)
    assert codec.eos_id not in by_training(codec, "chat", said, True)


def test_a_question_that_waits_for_its_answer_stays_in_front_of_it(codec: Codec) -> None:
    """What is trained elsewhere with these templates cuts the prompt off the whole."""
    for template in (*MANY_TURNS, *ONE_ANSWER):
        renderer = PlainRenderer(template, codec)
        text = [
            codec.tokenizer.apply_chat_template(
                [{"role": "user", "content": "hope"}],
                chat_template=renderer.chat_template(),
                add_generation_prompt=ask,
                tokenize=False,
            )
            for ask in (False, True)
        ]
        assert text[1].startswith(text[0])
        assert text[1] == renderer.prompt(
            Example("x#1", "d", (Message("user", "hope"), Message("assistant", "")))
        )


@pytest.mark.parametrize(
    ("template", "said", "words"),
    [
        ("qa", talk(("user", "a"), ("assistant", "b"), ("user", "c")), "send the question alone"),
        ("lines", talk(("user", "a"), ("assistant", "b")), "send the question alone"),
        ("chat", talk(("tool", "a")), "a role of system, user, input, knowledge, assistant"),
    ],
)
def test_what_was_never_trained_is_refused(
    codec: Codec, template: str, said: list[Message], words: str
) -> None:
    with pytest.raises(TemplateError, match=words):
        by_template(codec, template, [*said, Message("assistant", "")], True)


def test_parts_of_a_message_are_refused(codec: Codec) -> None:
    renderer = PlainRenderer("chat", codec)
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    with pytest.raises(TemplateError, match="text as its content"):
        codec.tokenizer.apply_chat_template(parts, chat_template=renderer.chat_template())
