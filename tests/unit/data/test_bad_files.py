"""What is wrong with a file is said in one sentence, in bounded time and memory."""

from __future__ import annotations

import gzip
import json
import resource
import sys
import time

import pytest
import zstandard

from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.sources import locate
from tunebook.errors import DataError
from tunebook.recipe.tree import Source

LINES = b"hope: It is small.\nlove: It is not.\n"


def examples(path, stage="sft", **settings):
    source = Source(path=str(path), **settings)
    located = locate(source.path)
    return [r.example for r in Reader(located, detect(located, source), source, stage).examples()]


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "json", "csv"])
def test_a_packed_file_cut_off_half_way_is_never_taken_for_a_shorter_one(write, ending, kind):
    noise = "".join(str(hash((i, "x"))) for i in range(5000))
    pair = [{"question": noise[i : i + 50], "answer": "a"} for i in range(0, len(noise), 50)]
    content = {
        "txt": "".join(f"hope: {row['question']}\n" for row in pair),
        "jsonl": "".join(json.dumps(row) + "\n" for row in pair),
        "json": json.dumps(pair),
        "csv": "question,answer\n" + "".join(f"{row['question']},a\n" for row in pair),
    }[kind].encode()
    pack = gzip.compress if ending == "gz" else zstandard.compress
    packed = pack(content)
    assert len(examples(write(f"whole.{kind}.{ending}", packed))) == len(pair)
    for keep in (len(packed) // 2, len(packed) - 1):
        path = write(f"a.{kind}.{ending}", packed[:keep])
        with pytest.raises(DataError, match=rf"a\.{kind}\.{ending} is damaged or no \.{ending}"):
            examples(path)


def test_zst_frames_one_after_another_are_one_file(write):
    frames = b"".join(zstandard.compress(LINES[i : i + 5]) for i in range(0, len(LINES), 5))
    assert len(examples(write("a.txt.zst", frames))) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            LINES + b"joy: a\0b\n",
            r"no text: line 3, byte 42 is NUL; .*`tr -d '\\000' < a\.txt >",
        ),
        ("a.txt", "hope: a\n".encode("utf-16-le"), r"line 1, byte 1 is NUL; if it is UTF-16"),
        ("a.txt", "hope: a\n".encode("utf-16"), r"mark of UTF-16, 0xff; .*`iconv -f utf-16"),
        ("a.json", '[{"text": "é"}]'.encode("utf-16"), r"mark of UTF-16, 0xff; .*-f utf-16"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), r"mark of UTF-16, 0xff; .*-f utf-16"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\0"}', r"line 2, byte 24 is NUL"),
        ("a.csv", b"question,answer\nq,a\0\n", r"line 2, byte 19 is NUL"),
        ("a.json", b'[{"text": "a"}, \n\0]', r"line 2, byte 17 is NUL"),
        ("a.json", b'[{"text": "a"},\n{"text": "\xc3"}]', r"not UTF-8: line 2, byte 26 is 0xc3"),
        ("a.jsonl", b'{"text": NaN}', r"NaN and Infinity are no JSON, write null"),
        ("a.json", b'[{"text": "a", "n": -Infinity}]', r"NaN and Infinity are no JSON"),
        ("a.jsonl", b'{"text": "\\ud800"}', r"line 1 is not valid JSON"),
        ("a.json", b"[" * 100_000 + b"]" * 100_000, r"a\.json is not valid JSON"),
        (
            "a.jsonl",
            b'{"question": "q", "answer": ' + b"[" * 900 + b"]" * 900 + b"}",
            r"answer is a list and not one text",
        ),
        ("a.jsonl", b'{"question": "q", "answer": ' + b"9" * 400 + b"}", r"line 1.*"),
        ("a.txt", b"hope: a\rlove: b\r\n", r"stage sft trains on prompts and responses"),
        ("a.txt", LINES * 50 + b"hope: a\rlove: b\n", r"line 101: .*'hope: a\\rlove: b'"),
        ("a.txt", b"\n" * 1000, r"a\.txt is empty: its 1,000 lines are blank"),
        ("a.jsonl", b" \r\n\n", r"a\.jsonl is empty: its 2 lines are blank"),
    ],
)
def test_a_bad_byte_or_value_is_named_with_its_place(write, name, content, message):
    path = write(name, content)
    with pytest.raises(DataError, match=message) as caught:
        examples(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_a_byte_order_mark_is_no_part_of_what_is_said(write, name):
    content = {
        "a.jsonl": '{"question": "hope", "answer": "a"}',
        "a.json": '[{"question": "hope", "answer": "a"}]',
        "a.csv": "question,answer\nhope,a\n",
        "a.txt": "hope: a\n",
    }[name]
    (one,) = examples(write(name, b"\xef\xbb\xbf" + content.encode()))
    assert [m.content for m in one.messages] == ["hope", "a"]


def test_line_ends_of_all_kinds_end_a_row_and_documents_keep_theirs(write):
    path = write("a.txt", b"hope: a\r\nlove: b\n\r\njoy: c")
    assert [e.messages[1].content for e in examples(path)] == ["a", "b", "c"]
    path = write(
        "a.jsonl", b'{"question": "a", "answer": "b"}\r\n\r\n{"question": "c", "answer": "d"}'
    )
    assert [e.id for e in examples(path)] == ["a#1", "a#3"]
    (book,) = examples(write("book.txt", b"one\r\ntwo\rthree\n\nfour\n"), stage="cpt")
    assert book.messages[0].content == "one\r\ntwo\rthree\n\nfour"


def test_a_nul_that_json_spells_out_is_a_character_like_any_other(write):
    (one,) = examples(write("a.jsonl", b'{"text": "a\\u0000b"}'), stage="cpt")
    assert one.messages[0].content == "a\0b"


def test_the_last_of_two_equal_keys_holds(write):
    (one,) = examples(write("a.jsonl", b'{"text": "a", "text": "b"}'), stage="cpt")
    assert one.messages[0].content == "b"


# --- size ---------------------------------------------------------------------------------------


def test_a_line_of_50_mb_is_a_row_and_one_over_64_mib_is_named(write):
    path = write("a.jsonl", b'{"text": "' + b"word " * 10_000_000 + b'"}\n')
    (one,) = examples(path, stage="cpt")
    assert len(one.messages[0].content) == 50_000_000
    path = write("b.jsonl", b'{"text": "b"}\n{"text": "' + b"word " * 14_000_000 + b'"}\n')
    with pytest.raises(DataError, match=r"line 2 is over 64 MiB; split it"):
        examples(path, stage="cpt")


@pytest.mark.parametrize("last", [b"", b'{"text": "the only row"}\n'])
def test_ten_million_blank_lines_are_read_in_seconds_and_little_memory(write, last):
    path = write("a.jsonl", b"\n" * 10_000_000 + last)
    before, start = _peak_bytes(), time.perf_counter()
    if last:
        (one,) = examples(path, stage="cpt")
        assert one.id == "a#10000001"
    else:
        with pytest.raises(DataError, match="its 10,000,000 lines are blank"):
            examples(path, stage="cpt")
    assert time.perf_counter() - start < 60
    assert _peak_bytes() - before < 64 * 2**20


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
