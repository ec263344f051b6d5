"""Every filter with rows that pass and rows that fail, and settings that are wrong."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest

from tunebook.data.filters import FILTERS, build_filters, chain_of
from tunebook.data.filters.chain import NEVER, Filter, Memory, Rewrite
from tunebook.data.filters.settings import list_settings
from tunebook.errors import DataError, RunFileError
from tunebook.records import Example, Message

PROSE = (
    "The ship had left the harbour before noon, and by the evening nobody on the shore could see "
    "its sails any more. They waited there all the same."
)


def text(content: str) -> Example:
    return Example("t#1", "t", (Message("text", content),))


def answer(content: str, asked: str = "What now?") -> Example:
    return Example("a#1", "a", (Message("user", asked), Message("assistant", content)))


def reason(spec, example: Example) -> str | None:
    judge = build_filters([spec])[0].judge
    assert isinstance(judge, Filter)
    return judge.reason(example)


def rewritten(spec, example: Example) -> Example:
    judge = build_filters([spec])[0].judge
    assert isinstance(judge, Rewrite)
    return judge.rewrite(example)


def dropped(spec, examples: list[Example]) -> list[int]:
    judge = build_filters([spec])[0].judge
    assert isinstance(judge, Memory)
    keys = np.array([judge.key(e) for e in examples], dtype=np.uint64)
    return np.flatnonzero(judge.repeats(keys.reshape(len(examples), judge.width))).tolist()


def some_settings(name: str) -> dict[str, dict[str, object]] | str:
    return {"regex": {"pattern": "x+"}} if name == "regex" else name


def needs(name: str) -> None:
    if name == "language":
        pytest.importorskip("py3langid")


SIMPLE = [name for name in FILTERS if name != "loss_band"]


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIMPLE)
def test_every_filter_can_be_sent_to_another_process_and_judges_there_alike(name: str) -> None:
    needs(name)
    judge = build_filters([some_settings(name)])[0].judge
    there = pickle.loads(pickle.dumps(judge))  # noqa: S301 (what workers do)
    example = text(f"{PROSE} xx <|endoftext|> {PROSE}")
    if isinstance(judge, Memory):
        assert list(judge.key(example)) == list(there.key(example))
        assert len(judge.key(example)) == judge.width
        assert all(0 <= key < 2**64 for key in judge.key(example))
    elif isinstance(judge, Rewrite):
        assert judge.rewrite(example) == there.rewrite(example)
    else:
        assert judge.reason(example) == there.reason(example)


@pytest.mark.parametrize("name", list(FILTERS))
def test_every_setting_has_a_type_that_is_checked_and_every_filter_says_what_it_does(name: str):
    assert (FILTERS[name].__doc__ or "").strip()
    for setting in list_settings(FILTERS[name]):
        assert setting.kind in (int, float, str, bool)
        wrong = 3.5 if setting.kind is str else "wide"
        needed = {"regex": {"pattern": "x"}, "loss_band": {"scores": "s"}}.get(name, {})
        with pytest.raises(RunFileError, match=f"filter {name}: {setting.name} is {wrong!r}, and"):
            build_filters([{name: {**needed, setting.name: wrong}}])


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("exact_duplicates", "unknown filter 'exact_duplicates'; did you mean 'exact_duplicate'"),
        ({"short_response": {"min_word": 3}}, "no setting 'min_word'; did you mean 'min_words'"),
        ({"exact_duplicate": {"x": 3}}, "has no setting 'x'; it has no settings"),
        ({"short_response": {"min_words": -1}}, "min_words is -1, and must be a whole number of"),
        ({"short_response": {"min_words": True}}, "min_words is True, and must be a whole number"),
        ({"near_duplicate": {"threshold": 1.5}}, "threshold is 1.5, and must be a number from 0.3"),
        ({"near_duplicate": {"unit": "bytes"}}, "must be one of words, characters"),
        ({"short_response_ramp": {"drop_to": 9, "keep_from": 9}}, "must be above drop_to, 9"),
        ({"character_classes": {"digits": "15"}}, "digits is '15', and must be a range in percent"),
        ({"character_classes": {"digits": "9-2"}}, "digits is '9-2', and must be a range"),
        ({"markup": {"kinds": "htm"}}, "kinds has 'htm'; did you mean 'html'"),
        ({"unbalanced": {"signs": ""}}, "signs is '', and must be signs"),
        ("regex", "filter regex needs a pattern: a text; say `regex: {pattern: ...}`"),
        ({"regex": {"pattern": "("}}, r"pattern '\(' is no regular expression: missing \)"),
        ({"regex": {"pattern": "a", "replace": r"\1"}}, "does not fit pattern 'a': invalid group"),
        ({"regex": {"pattern": "a", "role": "bot"}}, "role is 'bot', and must be one of all"),
        ({"loss_band": {"scores": "no.jsonl", "low": 3}}, "low is 3, and must be below high, 2.5"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_way_out(spec, sentence: str) -> None:
    with pytest.raises(RunFileError, match=sentence):
        build_filters([spec])


def test_a_whole_number_where_a_number_is_wanted_is_that_number() -> None:
    one, other = build_filters(
        [{"character_classes": {"min_share": 1}}, {"character_classes": {"min_share": 1.0}}]
    )
    assert one.settings == other.settings


def test_what_decides_beside_the_settings_is_named_for_the_cache() -> None:
    assert build_filters(["near_duplicate"])[0].fingerprint.startswith("rensa ")
    assert build_filters(["short_response"])[0].fingerprint == ""


# --- by length ----------------------------------------------------------------------------------


def test_short_and_long_answers_are_dropped_at_their_bounds() -> None:
    three, two = answer("one two three"), answer("one two")
    assert reason({"short_response": {"min_words": 3}}, three) is None
    assert reason({"short_response": {"min_words": 3}}, two) == "short response"
    assert reason({"long_response": {"max_words": 2}}, two) is None
    assert reason({"long_response": {"max_words": 2}}, three) == "long response"


def test_answers_that_are_only_context_do_not_make_a_short_answer_long() -> None:
    context = Message("assistant", "a very long answer of many words", trained=False)
    turns = (Message("user", "a"), context, Message("user", "b"), Message("assistant", "yes"))
    assert reason("short_response", Example("c#1", "c", turns)) == "short response"


def test_the_ramp_drops_all_up_to_8_words_none_from_48_and_a_linear_share_between() -> None:
    def share(n_words: int) -> float:
        rows = [answer(" ".join([f"w{i}"] * n_words)) for i in range(2000)]
        judge = build_filters(["short_response_ramp"])[0].judge
        return sum(judge.reason(row) is not None for row in rows) / len(rows)

    assert share(8) == 1
    assert share(48) == 0
    for n_words in (18, 28, 38):
        assert share(n_words) == pytest.approx((48 - n_words) / 40, abs=0.04)


def test_the_ramp_goes_by_the_median_answer_of_a_conversation() -> None:
    def talk(*lengths: int) -> Example:
        turns = [
            m
            for n in lengths
            for m in (Message("user", "so?"), Message("assistant", " ".join(["word"] * n)))
        ]
        return Example("c#1", "c", tuple(turns))

    assert reason("short_response_ramp", talk(1, 60, 60)) is None
    assert reason("short_response_ramp", talk(500, 2, 2)) == "short responses"


# --- by what is written -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("*waves* Hello", None),
        ("*waves Hello", "unbalanced *"),
        ('"Yes," she said.', None),
        ('"Yes, she said.', 'unbalanced "'),
        ("* one\n* two\n* three", None),
        ("* one *word*\n  * two\n* three", None),
        ("nothing of the kind", None),
    ],
)
def test_unbalanced_signs(content: str, found: str | None) -> None:
    assert reason("unbalanced", answer(content)) == found


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("a <b>bold</b> word", "html"),
        ("line<br/>line", "html"),
        ('see <a href="x">this</a>', "html"),
        ("left <!-- out -->", "html"),
        ("Tom &amp; Ann", "entity"),
        ("it&#39;s", "entity"),
        ("the [[Moon|satellite]] of", "wiki"),
        ("born {{circa|1850}} in", "wiki"),
        ("== History ==\nLong ago", "wiki"),
        ("[b]bold[/b]", "bbcode"),
        ("[url=http://x]there[/url]", "bbcode"),
    ],
)
def test_leftover_markup_is_found_with_its_kind(content: str, kind: str) -> None:
    assert reason("markup", answer(content)) == f"leftover markup ({kind})"
    others = " ".join({"html", "entity", "wiki", "bbcode"} - {kind})
    assert reason({"markup": {"kinds": others}}, answer(content)) is None


@pytest.mark.parametrize(
    "content",
    [
        "if a < b and c > d then",
        "write to <name@example.org> & wait",
        "the matrix [[1, 2], [3, 4]]",
        "the mass $M_{{Earth}}$ and $x^{{abc}}$",
        "a[i] = b[u]; x == y",
        "as said [1], and [citation needed]",
        "AT&T; R&D",
    ],
)
def test_signs_that_only_look_like_markup_stay(content: str) -> None:
    assert reason("markup", answer(content)) is None


def test_prose_passes_the_bounds_on_characters_and_tables_do_not() -> None:
    table = "12.5 13.7 88.1 90.2\n11.1 45.2 97.0 33.3"
    shouting = "WHAT IS THIS AND WHY IS IT SO LOUD IN HERE"
    assert reason("character_classes", text(PROSE)) is None
    assert reason("character_classes", text(table)) == "character classes"
    assert reason("character_classes", text(shouting)) == "character classes"


@pytest.mark.parametrize(
    ("setting", "bad"),
    [
        ("spaces", "Averyveryverylongwordindeedwithoutanyspaceatall"),
        ("digits", "In 1850 1851 1852 1853 1854 there was rain there"),
        ("capitals", "NOW Then HE SAID to them that all was well"),
        ("lower_case", "I AM; HE IS; WE ARE; 1 2 3 a b c d e f g"),
        ("newlines", "one\ntwo\nthree\nfour five Six seven"),
        ("backslashes", "Take \\alpha and \\beta and \\gamma or \\d"),
        ("periods", "He said. She said. I did. So on. And so. On it"),
        ("exclamation_marks", "Oh! Ah! Look! There! Is! It! Not! here"),
        ("question_marks", "Why? Who? Where? When? What? How? why not"),
    ],
)
def test_each_class_of_characters_has_bounds_of_its_own(setting: str, bad: str) -> None:
    names = [s.name for s in list_settings(FILTERS["character_classes"]) if s.kind is str]
    wide = dict.fromkeys(names, "0-100")
    assert reason({"character_classes": wide}, text(bad)) is None
    default = next(
        s.default for s in list_settings(FILTERS["character_classes"]) if s.name == setting
    )
    only = {"character_classes": {**wide, setting: default}}
    assert reason(only, text(bad)) == "character classes"


def test_a_text_stays_when_half_of_its_paragraphs_pass() -> None:
    table = "12 13 14 15 16"
    assert reason("character_classes", text(f"{PROSE}\n\n{table}")) is None
    assert reason("character_classes", text(f"{PROSE}\n\n{table}\n \n{table}")) is not None


def test_accented_letters_count_as_letters() -> None:
    assert reason("character_classes", text("Élève modèle à l'école, il était né là-bas")) is None


def test_other_languages_are_dropped_and_few_words_are_no_evidence() -> None:
    pytest.importorskip("py3langid")
    german = "Das Schiff hatte den Hafen vor Mittag verlassen, und am Abend war es nicht zu sehen."
    assert reason("language", text(PROSE)) is None
    assert reason("language", text(german)) == "language de"
    assert reason({"language": {"languages": "en de"}}, text(german)) is None
    assert reason("language", answer("Ja, gut.")) is None


def test_a_language_in_the_middle_of_a_long_text_is_seen() -> None:
    pytest.importorskip("py3langid")
    german = "Das Schiff hatte den Hafen verlassen, und am Abend war es nicht mehr zu sehen. " * 40
    assert reason("language", text(f"Chapter one. {german} The end.")) == "language de"


def test_an_unknown_language_code_is_refused() -> None:
    pytest.importorskip("py3langid")
    with pytest.raises(RunFileError, match="languages is 'english'; say codes of two letters"):
        build_filters([{"language": {"languages": "english"}}])


def test_without_its_library_the_language_filter_says_how_to_get_it(monkeypatch) -> None:
    import sys

    from tunebook.data.filters import language

    language._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid", None)
    with pytest.raises(DataError, match=r"needs py3langid; pip install 'tunebook\[language\]'"):
        build_filters(["language"])


# --- rewrites -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<|endoftext|>Hope is here.<|endoftext|>", "Hope is here."),
        ("<s> Hope is here. </s>\n", "Hope is here."),
        ("[INST] Say it [/INST] now", "Say it now"),
        ("one<|im_end|><|im_start|>two", "one two"),
        ("a < b, and <small> is small", "a < b, and <small> is small"),
    ],
)
def test_special_tokens_are_taken_out_of_answers(before: str, after: str) -> None:
    assert rewritten("repair_special_tokens", answer(before)).messages[1].content == after


def test_the_end_of_a_document_inside_a_text_parts_it() -> None:
    found = rewritten("repair_special_tokens", text("<|endoftext|>one\n<|endoftext|>\ntwo</s>"))
    assert [m.content for m in found.messages] == ["one", "two"]


def test_a_text_that_is_parted_has_the_end_token_between_its_parts(codec) -> None:
    from tunebook.data.render import TextRenderer
    from tunebook.data.tokenize import tokenize

    found = rewritten("repair_special_tokens", text("one<|endoftext|>two"))
    block = tokenize([TextRenderer(codec).render(found)], codec, train_all=True)
    one, two = (codec.encode(part, specials=False)[0] for part in ("one", "two"))
    assert block.ids.tolist() == [*one, codec.eos_id, *two, codec.eos_id]


def test_further_special_tokens_can_be_named() -> None:
    spec = {"repair_special_tokens": {"also": "[END] ###"}}
    assert rewritten(spec, answer("so it is [END]")).messages[1].content == "so it is"


@pytest.mark.parametrize("spec", ["repair_special_tokens", {"regex": {"pattern": "zebra"}}])
def test_a_rewrite_that_changes_nothing_gives_the_very_row_and_is_reported(spec) -> None:
    example = answer("a plain < answer")
    assert rewritten(spec, example) is example
    chain = chain_of(build_filters([spec]))
    outcome = chain.run(example)
    at = np.array([outcome.dropped_at], dtype=np.int16)
    assert outcome.dropped_at == NEVER
    assert chain.idle(at, Counter(outcome.changed)) == list(chain.names)


def test_a_regex_changes_only_the_role_it_names() -> None:
    spec = {"regex": {"pattern": r"(\w+)our\b", "replace": r"\1or", "role": "assistant"}}
    found = rewritten(spec, answer("a colour", asked="which colour?"))
    assert [m.content for m in found.messages] == ["which colour?", "a color"]


# --- repeats ------------------------------------------------------------------------------------


def test_the_first_of_equal_rows_stays() -> None:
    rows = [answer("one"), answer("two"), answer("one"), answer("one", asked="else?")]
    assert dropped("exact_duplicate", rows) == [2]


def test_case_and_punctuation_make_no_new_row() -> None:
    rows = [text(PROSE), text(PROSE.upper().replace(",", " -")), text("Something else entirely.")]
    assert dropped("near_duplicate", rows) == [1]


def test_turns_of_one_conversation_are_not_near_duplicates_of_each_other() -> None:
    persona = Message("system", PROSE * 5)
    turns = [
        Message("user", "How do you do, captain?"),
        Message("assistant", "Well enough; the wind is with us today.", trained=False),
        Message("user", "And where are we going this time?"),
        Message("assistant", "To the islands in the south, for spices."),
    ]
    first = Example("p#1.1", "p", (persona, turns[0], Message("assistant", turns[1].content)))
    second = Example("p#1.2", "p", (persona, *turns))
    assert dropped("near_duplicate", [first, second]) == []


def test_short_rows_are_compared_whole() -> None:
    rows = [text("Yes."), text("No."), text("yes"), text("!!!"), text("???"), text("!!!")]
    assert dropped("near_duplicate", rows) == [2, 5]


def test_writing_without_spaces_is_compared_by_characters() -> None:
    one = (
        "船は正午前に港を出て、夕方には岸から帆が見えなくなっていた。"
        "それでも彼らはそこで待っていた。"
    )
    rows = [text(one), text(one.replace("彼ら", "人々")), text("今日は天気がいいので散歩に行く。")]
    spec = {"near_duplicate": {"unit": "characters", "threshold": 0.7}}
    assert dropped(spec, rows) == [1]
