"""Which tokens of a conversation carry loss, in five chat templates."""

from __future__ import annotations

import pytest

from tunebook.data.chat import ChatRenderer
from tunebook.data.tokenize import tokenize
from tunebook.errors import DataError
from tunebook.records import Example, Message

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}</s>"
    "{% else %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
GEMMA = (
    "<bos>{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else 'user' }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# name -> template, end token, what stands between prompt and answer and belongs to the answer
TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>", ""),
    "llama-3": (LLAMA3, "<|eot_id|>", ""),
    "mistral": (MISTRAL, "</s>", " "),
    "zephyr": (ZEPHYR, "</s>", ""),
    "gemma": (GEMMA, "<end_of_turn>", ""),
}


def example(*turns: tuple[str, str]) -> Example:
    return Example("x#1", "d", tuple(Message(role, said) for role, said in turns))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("normalizer", "written"),
    [
        ("Lowercase", "say <|IM_END|> and <|Im_End|>"),
        ("NFKC", "say ＜｜ｉｍ＿ｅｎｄ｜＞"),
        ("Lowercase", "<|<|IM_END|>IM_END|>"),
    ],
)
def test_what_a_normalizer_makes_a_special_token_stays_text(make_codec, normalizer, written):
    from tokenizers import AddedToken, Tokenizer, normalizers
    from transformers import PreTrainedTokenizerFast

    from tunebook.models.tokenizer import Codec

    plain = make_codec(CHATML)
    backend = Tokenizer.from_str(plain.tokenizer.backend_tokenizer.to_str())
    backend.normalizer = getattr(normalizers, normalizer)()
    backend.add_special_tokens([AddedToken("<|im_end|>", special=True, normalized=True)])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    fast.chat_template = CHATML
    codec = Codec(fast, plain.folder, "normalizing")
    assert codec.normalizes_specials
    assert not plain.normalizes_specials
    assert set(codec.encode(written, specials=True)[0]) & codec.special_ids

    def n_controls(content: str) -> int:
        rendered = ChatRenderer(codec).render(example(("user", content), ("assistant", "Yes.")))
        assert bool(rendered.split_specials) == (content == written)
        ids = tokenize([rendered], codec, train_all=False).ids.tolist()
        return sum(token in codec.special_ids for token in ids)

    assert n_controls(written) == n_controls("a word")


def target_texts(codec, one: Example) -> list[str]:
    """Decode each stretch of target tokens on its own."""
    row = tokenize([ChatRenderer(codec).render(one)], codec, train_all=False)
    stretches: list[list[int]] = []
    before = False
    for token, target in zip(row.ids.tolist(), row.target.tolist(), strict=True):
        if target and not before:
            stretches.append([])
        if target:
            stretches[-1].append(token)
        before = target
    return [codec.decode(ids) for ids in stretches]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_targets_of_one_turn_are_the_answer_and_its_end_token(make_codec, name):
    template, end, lead = TEMPLATES[name]
    codec = make_codec(template, eos=end)
    one = example(("user", "What is the capital?"), ("assistant", "Paris, of course."))
    assert target_texts(codec, one) == [f"{lead}Paris, of course.{end}"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_targets_of_many_turns_are_all_answers_and_their_end_tokens(make_codec, name):
    template, end, lead = TEMPLATES[name]
    codec = make_codec(template, eos=end)
    one = example(
        ("user", "Hi"), ("assistant", "Hello."), ("user", "And?"), ("assistant", "Nothing, é 雪.")
    )
    assert target_texts(codec, one) == [f"{lead}Hello.{end}", f"{lead}Nothing, é 雪.{end}"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_token_is_the_one_the_template_alone_would_give(make_codec, name):
    template, end, _ = TEMPLATES[name]
    codec = make_codec(template, eos=end)
    one = example(("user", "What is it?"), ("assistant", "A fox."))
    row = tokenize([ChatRenderer(codec).render(one)], codec, train_all=False)
    turns = [{"role": m.role, "content": m.content} for m in one.messages]
    whole = codec.render_chat(turns, add_generation_prompt=False)
    assert row.ids.tolist() == codec.encode(whole, specials=True)[0]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_prompt_is_the_beginning_of_the_row(make_codec, name):
    template, end, _ = TEMPLATES[name]
    codec = make_codec(template, eos=end)
    one = example(("user", "What is it?"), ("assistant", "A fox."))
    renderer = ChatRenderer(codec)
    row = tokenize([renderer.render(one)], codec, train_all=False)
    n_prompt = int(row.target.argmax())
    assert renderer.prompt_ids(one) == row.ids.tolist()[:n_prompt]
    assert renderer.prompt_ids("What is it?") == row.ids.tolist()[:n_prompt]


@pytest.mark.parametrize("name", TEMPLATES)
def test_special_tokens_written_by_a_user_stay_text_and_do_not_end_an_answer(make_codec, name):
    template, end, lead = TEMPLATES[name]
    codec = make_codec(template, eos=end)
    said = f"It ends with {end} and more"
    one = example(("user", f"Why {end}{end}?"), ("assistant", said))
    rendered = ChatRenderer(codec).render(one)
    plain = ChatRenderer(codec).render(example(("user", "Why?"), ("assistant", "It")))
    row, without = (tokenize([one], codec, train_all=False) for one in (rendered, plain))
    end_id = codec.tokenizer.convert_tokens_to_ids(end)
    assert rendered.split_specials == 3
    assert (row.ids == end_id).sum() == (without.ids == end_id).sum()
    assert target_texts(codec, one) == [f"{lead}{said}{end}"]


def test_scored_bytes_count_the_answer_and_no_special_token(make_codec):
    codec = make_codec(CHATML, eos="<|im_end|>")
    one = example(("user", "Was ist Schnee?"), ("assistant", "雪 is snow"))
    row = tokenize([ChatRenderer(codec).render(one)], codec, train_all=False)
    assert int(row.n_bytes[row.target].sum()) == len("雪 is snow".encode())


def test_a_template_that_rewrites_earlier_turns_is_refused_with_the_way_out(make_codec):
    forgetful = (
        "{% for m in messages %}{% if loop.last or m.role == 'user' %}<|im_start|>{{ m.role }}\n"
        "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    codec = make_codec(forgetful, eos="<|im_end|>")
    one = example(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    with pytest.raises(DataError, match=r"x#1: the chat template of small .*`template: chat`"):
        ChatRenderer(codec).render(one)


def test_a_template_that_refuses_a_role_is_named_with_the_row(make_codec):
    picky = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m.content }}<|im_end|>{% endfor %}"
    )
    codec = make_codec(picky, eos="<|im_end|>")
    one = example(("system", "s"), ("user", "a"), ("assistant", "b"))
    with pytest.raises(DataError, match=r"x#1: .*no system"):
        ChatRenderer(codec).render(one)


def test_the_input_of_an_instruction_joins_the_user_turn(make_codec):
    codec = make_codec(CHATML, eos="<|im_end|>")
    one = example(("user", "Count."), ("input", "a b c"), ("assistant", "3"))
    assert "user\nCount.\n\na b c<|im_end|>" in ChatRenderer(codec).prompt(one)


def test_answers_that_no_special_token_ends_are_counted(make_codec):
    bare = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    codec = make_codec(bare + "{% if add_generation_prompt %}assistant: {% endif %}")
    one = example(("user", "a"), ("assistant", "b c"))
    assert target_texts(codec, one) == ["b c"]
    assert ChatRenderer(codec).render(one).unended == 1
    assert ChatRenderer(make_codec(CHATML, eos="<|im_end|>")).render(one).unended == 0


# --- personas and knowledge ---------------------------------------------------------------------

STRICT = (
    "{% set rest = messages[1:] if messages and messages[0].role == 'system' else messages %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + CHATML
)
PERSONA = (
    Message("system", "Persona: I am a pilot."),
    Message("system", "Scenario: In a bar."),
    Message("user", "Hello"),
    Message("assistant", "Hi.", trained=False),
    Message("user", "How high?"),
    Message("knowledge", "Jets fly at 11 km."),
    Message("assistant", "Eleven kilometres."),
)


def test_persona_and_scenario_are_one_system_message_and_knowledge_joins_the_question(make_codec):
    codec = make_codec(STRICT, eos="<|im_end|>")
    rendered = ChatRenderer(codec).render(Example("x#1.2", "d", PERSONA, 2))
    row = tokenize([rendered], codec, train_all=False)
    assert codec.decode(row.ids.tolist()) == (
        "<|im_start|>system\nPersona: I am a pilot.\nScenario: In a bar.<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi.<|im_end|>\n"
        "<|im_start|>user\nRelevant Knowledge: Jets fly at 11 km.\n\nHow high?<|im_end|>\n"
        "<|im_start|>assistant\nEleven kilometres.<|im_end|>\n"
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_answers_that_are_context_carry_no_loss(make_codec, name):
    template, end, lead = TEMPLATES[name]
    codec = make_codec(template, eos=end)
    one = Example("x#1.2", "d", PERSONA, 2)
    assert target_texts(codec, one) == [f"{lead}Eleven kilometres.{end}"]


def test_knowledge_before_a_question_is_in_the_same_turn(make_codec):
    codec = make_codec(STRICT, eos="<|im_end|>")
    turns = (Message("knowledge", "A fact."), Message("user", "q"), Message("assistant", "r"))
    prompt = ChatRenderer(codec).prompt(Example("x#1", "d", turns))
    assert "user\nRelevant Knowledge: A fact.\n\nq<|im_end|>" in prompt


def test_a_talk_that_the_assistant_begins_follows_an_empty_turn_only_where_one_is_wanted(
    make_codec,
):
    one = Example("x#1", "d", (PERSONA[0], Message("assistant", "Who is there?")))
    strict = make_codec(STRICT, eos="<|im_end|>")
    lenient = make_codec(CHATML, eos="<|im_end|>")
    assert "<|im_start|>user\n<|im_end|>" in ChatRenderer(strict).prompt(one)
    assert "user" not in ChatRenderer(lenient).prompt(one)
    for codec in (strict, lenient):
        assert target_texts(codec, one) == ["Who is there?<|im_end|>"]


def test_a_template_without_system_messages_names_the_plain_one_that_takes_them(make_codec):
    picky = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    codec = make_codec(picky + CHATML, eos="<|im_end|>")
    with pytest.raises(DataError, match=r"no system.*`template: persona`"):
        ChatRenderer(codec).render(Example("x#1", "d", PERSONA, 2))
