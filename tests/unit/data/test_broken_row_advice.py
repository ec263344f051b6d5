"""What is wrong with a row comes with a way out that works when it is followed."""

from __future__ import annotations

import json

import pytest

from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.sources import locate
from tunebook.errors import DataError
from tunebook.recipe.tree import Source

GOOD = {"instruction": "Add.", "input": "", "output": "3"}
CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def read(path, **settings):
    source = Source(path=str(path), **settings)
    located = locate(source.path)
    detected = detect(located, source)
    return [r.example for r in Reader(located, detected, source, "sft").examples()]


def complaint(path, **settings):
    with pytest.raises(DataError) as refused:
        read(path, **settings)
    return str(refused.value).removeprefix(str(path))


def lines_of(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "output is null, not a text; fill it in, or take the row out of the file"),
        (["x"], 'output is ["x"], a list and not one text; write it as one text, or'),
        ({"a": 1}, 'output is {"a":1}, an object and not one text; write it as one text, or'),
        (3, "output is 3, not a text; put it in quotation marks"),
        (True, "output is true, not a text; put it in quotation marks"),
    ],
)
def test_a_value_that_is_no_text_comes_with_what_makes_it_one(write, value, said):
    path = write("a.jsonl", lines_of(GOOD, {**GOOD, "output": value}))
    assert complaint(path).startswith(f", line 2: {said}")


def test_nobody_is_told_to_quote_a_number_in_a_table_that_has_types(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"instruction": ["a"], "output": [3]}), path)
    assert complaint(path) == (", row 1: output is 3, not a text; make the column one of texts")


@pytest.mark.parametrize(
    ("content", "has", "name"),
    [
        ("question,answer\nq,a\nq\n", "1 field", "a.csv"),
        ("question\tanswer\tdocument\na\tb\tc\nq\ta\n", "2 fields", "a.tsv"),
    ],
)
def test_a_row_with_too_few_fields_is_not_told_to_quote_its_delimiters(write, content, has, name):
    said = complaint(write(name, content))
    between = "comma" if name == "a.csv" else "tab"
    assert f"row 2 (line 3) has {has}, and the first line names" in said
    assert f"write each field, an empty one as well, with a {between} between" in said
    assert "line break" in said
    assert "delimiter" not in said


def test_a_row_with_too_many_fields_is_told_to_quote_its_delimiters(write):
    said = complaint(write("a.csv", "question,answer\nq,a,b\n"))
    assert "has 3 fields, and the first line names 2; put fields with a comma" in said


def test_a_row_of_another_format_is_told_apart_and_not_renamed(write):
    said = complaint(write("a.jsonl", lines_of(*[GOOD] * 20, CHAT, GOOD)))
    assert said == (
        ", line 21: the row has messages, as format chat, and the rows before it have "
        "instruction, as format alpaca; put the rows of each format into a file of their own"
    )
    read(write("apart.jsonl", lines_of(*[GOOD] * 21)))
    read(write("chat.jsonl", lines_of(CHAT)))


def test_a_row_of_another_shape_of_the_format_is_told_apart_too(write):
    other = {"instruction": "i", "response": "r"}
    assert complaint(write("a.jsonl", lines_of(GOOD, other))).startswith(
        ", line 2: the row has instruction and response, as format alpaca, and the rows before it "
        "have output, as format alpaca; "
    )


@pytest.mark.parametrize("typo", ["instructon", "Instruction", "INSTRUCTION", "instructions"])
def test_a_key_that_one_row_misspells_is_named_beside_the_right_one(write, typo):
    row = {typo: "i", "input": "", "output": "o"}
    assert complaint(write("a.jsonl", lines_of(GOOD, row))) == (
        f", line 2: the row has no 'instruction', which the rows before it have; it has {typo!r}; "
        "did you mean 'instruction'?"
    )


def test_a_row_that_lacks_a_key_is_to_be_completed(write):
    row = {"instruction": "i", "input": ""}
    assert complaint(write("a.jsonl", lines_of(GOOD, row))) == (
        ", line 2: the row has no 'output', which the rows before it have; it has instruction, "
        "input; fill it in, or take the row out of the file"
    )


def test_a_mapped_column_that_a_later_row_lacks_is_named_as_the_file_names_it(write):
    rows = [{"q": "a", "reply": "b"}, {"q": "a", "repyl": "b"}]
    said = complaint(
        write("a.jsonl", lines_of(*rows)), columns={"prompt": "q", "completion": "reply"}
    )
    assert said == (
        ", line 2: the row has no 'reply' (for completion), which the rows before it have; it has "
        "'repyl'; did you mean 'reply'?"
    )


def test_columns_are_advised_where_the_first_row_lacks_a_key(write):
    said = complaint(
        write("a.jsonl", lines_of({"instruction": "i", "reply": "r"})), format="alpaca"
    )
    assert "name your own columns as `columns: {output: your_name}`" in said


@pytest.mark.parametrize(
    ("name", "before", "after", "place"),
    [
        ("a.jsonl", "", "", "line 2"),
        ("a.json", "[", "]", "line 2, column "),
    ],
)
@pytest.mark.parametrize("number", ["1" * 10_000, "-" + "1" * 10_000, "1e999"])
def test_a_number_too_large_to_read_is_named_with_its_place(
    write, number, name, before, after, place
):
    good = json.dumps(GOOD)
    comma = "," if before else ""
    row = f'{{"instruction": "i", "output": "o", "n": {number}}}'
    said = complaint(write(name, f"{before}{good}{comma}\n{row}{after}\n"))
    assert place in said
    assert "holds a number too large to be read" in said
    assert "put it in quotation marks, or take it out" in said
    assert not any(words in said for words in ("infinity", "not valid JSON"))
    quoted = row.replace(number, f'"{number}"')
    assert len(read(write("b" + name, f"{before}{good}{comma}\n{quoted}{after}\n"))) == 2


@pytest.mark.parametrize("number", ["1" * 10_000, "1e999"])
def test_a_number_too_large_in_a_file_that_is_read_row_by_row_is_said_as_one(
    write, monkeypatch, number
):
    from tunebook.data import json_rows

    monkeypatch.setattr(json_rows, "MAX_ROW_BYTES", 40_000)
    good = json.dumps(GOOD)
    large = f'{{"instruction": "i", "output": "o", "n": {number}}}'
    said = complaint(write("a.json", f"[{', '.join([good] * 800)}, {large}]"))
    assert "a row soon after row" in said
    assert "holds a number too large to be read" in said
