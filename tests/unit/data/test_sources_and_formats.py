"""Files are found and read strictly, and each format is recognised with a reason."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import zstandard

from tunebook.data.chess.engine import typed_engine
from tunebook.data.detect import detect, split_keyword
from tunebook.data.examples import Reader
from tunebook.data.filters import build_filters
from tunebook.data.scores import read_scores
from tunebook.data.sources import describe_files, hash_files, locate
from tunebook.errors import DataError, RunFileError, UsageError
from tunebook.recipe.tree import Source
from tunebook.records import Example, Message

ALPACA = [{"instruction": "Add.", "input": "1 2", "output": "3"}]
CHAT = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
SHAREGPT = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]


def found(path, **settings):
    source = Source(path=str(path), **settings)
    return detect(locate(source.path), source)


def examples(path, stage="sft", **settings):
    source = Source(path=str(path), **settings)
    located = locate(source.path)
    return [r.example for r in Reader(located, detect(located, source), source, stage).examples()]


# --- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected", "reason"),
    [
        ("a.json", ALPACA, "alpaca", "rows have instruction and output"),
        ("a.jsonl", CHAT, "chat", "rows have messages"),
        ("a.jsonl", SHAREGPT, "sharegpt", "rows have conversations"),
        ("a.jsonl", [{"prompt": "a", "completion": "b"}], "completion", "prompt and completion"),
        ("a.jsonl", [{"text": "a"}], "text", "rows have text"),
        ("a.jsonl", [{**ALPACA[0], "text": "all of it"}], "alpaca", "instruction and output"),
        ("a.txt", "hope: a\nlove: b\n", "lines", "2 of 2 lines read `keyword: text`"),
        ("a.txt", "It was a dark night.\nIt rained.\n", "text", "plain text; 0 of 2"),
    ],
)
def test_a_format_is_detected_with_its_reason(write, name, content, expected, reason):
    detected = found(write(name, content))
    assert detected.format == expected
    assert reason in detected.reason
    assert name in detected.looked_at


def test_every_format_becomes_messages(write):
    def said(path, **settings):
        return [(m.role, m.content) for m in examples(path, **settings)[0].messages]

    assert said(write("a.json", ALPACA)) == [
        ("user", "Add."),
        ("input", "1 2"),
        ("assistant", "3"),
    ]
    assert said(write("b.json", CHAT)) == [("user", "a"), ("assistant", "b")]
    assert said(write("c.json", SHAREGPT)) == [("user", "a"), ("assistant", "b")]
    assert said(write("d.txt", "hope: Better: a\n")) == [
        ("user", "hope"),
        ("assistant", "Better: a"),
    ]
    assert said(write("e.txt", "hope: a\n"), stage="cpt") == [("text", "hope: a")]
    assert said(write("f.jsonl", [{"text": "x"}]), stage="cpt") == [("text", "x")]


def test_own_column_names_are_mapped_and_response_is_understood(write):
    path = write("a.jsonl", [{"question": "q", "answer": "a"}])
    columns = {"prompt": "question", "response": "answer"}
    assert found(path, columns=columns).format == "completion"
    assert [m.content for m in examples(path, columns=columns)[0].messages] == ["q", "a"]


def test_ids_count_rows_as_an_editor_does(write):
    path = write("a.jsonl", '{"text": "x"}\n\n{"text": "y"}\n')
    assert [e.id for e in examples(path, stage="cpt")] == ["a#1", "a#3"]


def test_equal_rows_are_one_document_wherever_they_stand(write):
    here, there = write("a.txt", "hope: a\nlove: b\n"), write("b.txt", "joy: c\nhope: a\n")
    assert examples(here)[0].document == examples(there)[1].document
    assert examples(here)[0].document != examples(here)[1].document


def test_a_keyword_is_short_and_has_text_after_it():
    assert split_keyword("hope: a thing") == ("hope", "a thing")
    assert split_keyword("ROMEO:") is None
    assert split_keyword("he said to her and to all of them: no") is None
    assert split_keyword("http://x") is None


# --- files --------------------------------------------------------------------------------------


def test_compressed_files_read_like_plain_ones(write):
    text = b"hope: a\nlove: \xc3\xa9\n"
    plain = examples(write("plain.txt", text))
    frames = zstandard.compress(text[:8]) + zstandard.compress(text[8:])
    for path in (write("p.txt.gz", gzip.compress(text)), write("p.txt.zst", frames)):
        assert [e.messages for e in examples(path)] == [e.messages for e in plain]


def test_a_folder_and_a_glob_read_files_by_name(write, tmp_path):
    write("books/b.txt", "second")
    write("books/a.txt", "first")
    write("books/README.md", "no data")
    for path in (tmp_path / "books", f"{tmp_path}/books/*.txt"):
        got = examples(path, stage="cpt")
        assert [m.content for e in got for m in e.messages] == ["first", "second"]
        assert [e.document for e in got] == ["a", "b"]
        assert [e.id for e in got] == ["books/a#1", "books/b#1"]


def test_a_byte_order_mark_is_tolerated(write):
    assert examples(write("a.txt", b"\xef\xbb\xbfhope: a\n"))[0].messages[0].content == "hope"
    assert found(write("a.json", b'\xef\xbb\xbf[{"text": "x"}]')).format == "text"


def test_the_content_hash_changes_with_content_and_name(write):
    first = hash_files(locate(str(write("a.txt", "x"))))
    assert first == hash_files(locate(str(write("a.txt", "x"))))
    assert first != hash_files(locate(str(write("a.txt", "y"))))
    assert first != hash_files(locate(str(write("b.txt", "x"))))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("file", ["# A\none\n@@\n# B\ntwo"]),
        ("line", ["# A", "one", "@@", "# B", "two"]),
        ("heading", ["# A\none\n@@", "# B\ntwo"]),
        ("separator", ["# A\none", "# B\ntwo"]),
        ("auto", ["# A\none", "# B\ntwo"]),
    ],
)
def test_text_is_cut_into_documents_as_asked(write, unit, expected):
    path = write("a.txt", "# A\none\n@@\n# B\ntwo\n")
    got = examples(path, stage="cpt", format="text", document=unit, separator="@@")
    assert [e.messages[0].content for e in got] == expected


def test_text_without_a_separator_is_one_document(write):
    got = examples(write("a.txt", "one\n\ntwo\n"), stage="cpt")
    assert [(e.document, e.messages[0].content) for e in got] == [("a", "one\n\ntwo")]


# --- mistakes -----------------------------------------------------------------------------------

MISTAKES = [
    ("a.json", b"", {}, r"a\.json is empty; put rows into it"),
    ("a.txt", b"", {}, r"a\.txt is empty"),
    ("a.txt", b"\n \n", {}, r"a\.txt is empty"),
    ("a.jsonl", b"\n\n", {}, r"a\.jsonl is empty"),
    ("a.json", b"[]", {}, r"a\.json holds no rows"),
    ("a.json", b'{"text": "x"}', {}, r"holds an object, not a list of rows"),
    ("a.json", b'{"text": "x"}\n{"text": "y"}', {}, r"one object per line is \.jsonl"),
    ("a.json", b'[{"text": "x"},\n {"text": }]', {}, r"not valid JSON: line 2, column 11"),
    ("a.jsonl", b'{"text": "x"}\n{"text": \n', {}, r"line 2 is not valid JSON"),
    ("a.jsonl", b'{"text": "x"}\n[1]\n', {}, r"line 2 is a list, not an object"),
    ("a.jsonl", b"[" * 5000 + b"]" * 5000, {}, r"line 1 is not valid JSON"),
    ("a.txt", b"hope: a\nlove: \xe9\n", {}, r"a\.txt is not UTF-8: line 2, byte 14 is 0xe9.*iconv"),
    ("a.json", b'[{"text":\n"\xff"}]', {}, r"not UTF-8: line 2, byte 11 is 0xff"),
    (
        "a.txt",
        "hope: a".encode("utf-16"),
        {},
        r"line 1, byte 0 is the byte order mark of UTF-16, 0xff; .*`iconv -f utf-16 -t utf-8 < a",
    ),
    ("a.xlsx", b"a,b", {}, r"unknown kind of file '\.xlsx'; tunebook reads \.json"),
    ("a.txt.gz", b"not gzip", {}, r"a\.txt\.gz is damaged or no \.gz archive"),
    ("a.txt.gz", gzip.compress(b"hope: a\n" * 9999)[:-30], {}, r"a\.txt\.gz is damaged"),
    ("a.txt.zst", b"not zstd", {}, r"a\.txt\.zst is damaged or no \.zst archive"),
    (
        "a.jsonl",
        b'{"query": "q", "reply": "a"}',
        {},
        r"line 1: no known format has the keys query, reply; .*sharegpt \(conversations\)"
        r".*`columns: \{prompt: query, completion: reply\}`",
    ),
    (
        "a.jsonl",
        b'{"prompt": "q", "completion": "a", "instruction": "i", "output": "o"}',
        {},
        r"fit alpaca and completion; say which, as `format: alpaca`",
    ),
    (
        "a.jsonl",
        b'{"prompt": "q", "chosen": "a", "rejected": "b"}',
        {},
        r"preference pairs \(chosen, rejected\)",
    ),
    (
        "a.jsonl",
        b'{"instruction": "i", "output": "o"}\n{"instruction": "i", "answer": "o"}',
        {},
        r"line 2: the row has no 'output', which the rows before it have; it has instruction, "
        r"answer; fill it in, or take the row out of the file",
    ),
    ("a.json", b'[{"instruction": "i", "output": 3}]', {}, r"row 1: output is 3, not a text"),
    ("a.json", b'[{"text": "x"}]', {"format": "alpaca"}, r"no 'instruction' and no 'output'"),
    (
        "a.json",
        b'[{"text": "x"}]',
        {"format": "lines"},
        r"row 1: format lines needs `keyword: text`, and the row says 'x'",
    ),
    ("a.txt", b"hope: a\n", {"format": "alpaca"}, r"format alpaca needs rows"),
    ("a.txt", b"hope: a\n", {"columns": {"text": "x"}}, r"columns are for rows"),
    (
        "a.txt",
        b"hope: a\nno keyword here\n",
        {},
        r"1 of 2 lines.*`format: lines` or `format: text`",
    ),
    (
        "a.txt",
        b"hope: a\nnone\n",
        {"format": "lines"},
        r"line 2: format lines needs `keyword: text`",
    ),
    (
        "a.json",
        b'[{"q": "x", "completion": "y"}]',
        {"columns": {"prompt": "nope"}},
        r"row 1: the row has no 'nope' \(for prompt\)",
    ),
    (
        "a.json",
        b'[{"text": "x"}]',
        {"columns": {"foo": "bar"}, "format": "text"},
        r"columns: foo is no column of format text; it has text",
    ),
    (
        "a.json",
        b'[{"messages": [{"role": "tool", "content": "x"}]}]',
        {},
        r"turn 1 has role 'tool'",
    ),
    ("a.json", b'[{"messages": [{"role": "user", "content": null}]}]', {}, r"content of turn 1"),
    (
        "a.json",
        b'[{"messages": [{"who": "user"}]}]',
        {},
        r"turn 1 of messages needs role and conten",
    ),
    (
        "a.json",
        b'[{"instruction": "i", "output": "o"}]',
        {"document": "heading"},
        r"document: heading is for plain text",
    ),
]


@pytest.mark.parametrize(("name", "content", "settings", "message"), MISTAKES)
def test_a_mistake_in_a_file_is_one_sentence_with_the_way_out(
    write, name, content, settings, message
):
    with pytest.raises(DataError, match=message) as caught:
        examples(write(name, content), **settings)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("unit", ["heading", "separator"])
def test_a_document_unit_that_is_not_there_is_an_error(write, unit):
    with pytest.raises(DataError, match=f"document: {unit} needs a line"):
        examples(write("a.txt", "plain\ntext\n"), stage="cpt", document=unit)


def test_a_missing_file_an_empty_folder_and_an_idle_glob_are_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no data file .*nope\.json"):
        locate(str(tmp_path / "nope.json"))
    with pytest.raises(DataError, match="holds no data file"):
        locate(str(tmp_path))
    with pytest.raises(DataError, match="no file matches"):
        locate(str(tmp_path / "*.json"))


def test_an_address_of_the_web_is_no_path_and_says_so(tmp_path):
    for path in ("https://example.org/a.jsonl", f"{tmp_path}/https:/example.org/a.jsonl"):
        with pytest.raises(DataError, match=r"^https://example\.org/a\.jsonl is an .*download it"):
            locate(path)


def test_a_missing_path_says_from_where_it_counts(tmp_path):
    with pytest.raises(DataError, match="it counts from the folder /"):
        locate("nope.json")
    with pytest.raises(DataError, match="in a run file counts from the folder of the run file"):
        locate(str(tmp_path / "nope.json"))


def test_a_home_folder_that_is_nobodys_is_said_in_one_sentence(monkeypatch):
    said = "~nosuchuser is no user's home folder here"
    with pytest.raises(UsageError, match=said):
        locate("~nosuchuser/x.jsonl")
    with pytest.raises(UsageError, match=said):
        read_scores("~nosuchuser/x.jsonl")
    with pytest.raises(UsageError, match=said):
        typed_engine("~nosuchuser/stockfish")


def test_a_packed_file_that_is_no_utf8_is_unpacked_on_the_way(write):
    path = write("my a.txt.gz", gzip.compress(b"hope: \xe9\n"))
    command = r"`gzip -dc 'my a\.txt\.gz' \| iconv -f latin1 -t utf-8 > 'my a-utf8\.txt'`"
    with pytest.raises(DataError, match=command):
        examples(path)


def test_files_that_only_their_endings_tell_apart_have_ids_of_their_own(write, tmp_path):
    line = b'{"text": "x"}\n'
    write("d/a.jsonl", line)
    write("d/a.jsonl.gz", gzip.compress(line))
    write("d/b.jsonl", line)
    got = examples(tmp_path / "d", stage="cpt")
    assert [e.id for e in got] == ["d/a.jsonl#1", "d/a.jsonl.gz#1", "d/b#1"]


def test_it_is_said_how_many_files_of_a_folder_are_read_and_left_out(write, tmp_path):
    for name in ("a.txt", "b.txt", ".hidden", "README.md", "x/table.xlsx", "y.pdf", "z.pdf"):
        write(f"d/{name}", "text")
    said = "2 files are read, 4 are left out: README.md, x/table.xlsx, y.pdf, …"
    assert describe_files(locate(str(tmp_path / "d"))) == said
    assert describe_files(locate(f"{tmp_path}/d/a*.txt")) == "1 file is read"
    assert describe_files(locate(f"{tmp_path}/d/a.txt")) is None


def test_files_of_different_kinds_are_not_one_source(write, tmp_path):
    write("a.txt", "x")
    write("b.json", [{"text": "x"}])
    with pytest.raises(DataError, match="files of different kinds"):
        locate(str(tmp_path))


def test_a_line_beyond_the_limit_is_named(write, monkeypatch):
    monkeypatch.setattr("tunebook.data.sources.MAX_ROW_BYTES", 20)
    with pytest.raises(DataError, match="line 2 is over 64 MiB"):
        examples(write("a.txt", "hope: a\nlove: " + "b" * 30))


def test_stages_refuse_data_of_the_other_kind(write):
    with pytest.raises(DataError, match="stage cpt trains on text, and this is format alpaca"):
        examples(write("a.json", ALPACA), stage="cpt")
    with pytest.raises(DataError, match="say `stage: cpt`"):
        examples(write("a.jsonl", [{"text": "x"}]), stage="sft")


# --- filters ------------------------------------------------------------------------------------


def qa(answer: str) -> Example:
    return Example("x#1", "d", (Message("user", "q"), Message("assistant", answer)))


def test_filters_give_a_reason_or_keep():
    duplicate, short, long = build_filters(
        [
            "exact_duplicate",
            {"short_response": {"min_words": 2}},
            {"long_response": {"max_words": 3}},
        ]
    )
    keys = np.array([duplicate.judge.key(qa(a)) for a in "aba"], dtype=np.uint64)
    assert duplicate.judge.repeats(keys).tolist() == [False, False, True]
    assert duplicate.judge.why == "exact duplicate"
    assert [short.judge.reason(qa(a)) for a in ("one", "one two")] == ["short response", None]
    assert [long.judge.reason(qa(a)) for a in ("a b c", "a b c d")] == [None, "long response"]


def test_defaults_of_a_filter_are_part_of_its_settings():
    (short,) = build_filters(["short_response"])
    assert short.settings == {"min_words": 3}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("exact_duplicates", "unknown filter 'exact_duplicates'; did you mean 'exact_duplicate'"),
        ({"short_response": {"min_word": 3}}, "no setting 'min_word'; did you mean 'min_words'"),
        ({"short_response": {"min_words": "3"}}, "min_words is '3', and must be a whole number"),
        ({"exact_duplicate": {"n": 3}}, "no setting 'n'; it has no settings"),
    ],
)
def test_an_unknown_filter_or_setting_names_the_nearest(spec, message):
    with pytest.raises(RunFileError, match=message):
        build_filters([spec])
