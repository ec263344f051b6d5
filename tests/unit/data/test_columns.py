"""A column that is named wrongly, or not at all, is answered with what to write instead."""

from __future__ import annotations

import pytest

from tunebook.data.detect import detect
from tunebook.data.sources import locate
from tunebook.errors import DataError
from tunebook.recipe.tree import Source

GERMAN = [{"Frage": "Wer?", "Antwort": "Ein Fuchs.", "Eingabe": ""}]


def refused(path, **settings):
    source = Source(path=str(path), **settings)
    with pytest.raises(DataError) as caught:
        detect(locate(source.path), source)
    return str(caught.value)


def test_a_mapping_that_is_turned_around_is_noticed(write):
    said = refused(write("a.json", GERMAN), columns={"Frage": "prompt", "Antwort": "completion"})
    assert "columns: prompt, not Frage, comes first; write `columns: {prompt: Frage}`" in said
    assert "--column prompt=Frage" in said


@pytest.mark.parametrize("named", ["auto", "alpaca"])
@pytest.mark.parametrize("wrong", ["instruction", "input"])
def test_a_column_with_a_wrong_letter_is_answered_with_the_nearest(write, named, wrong):
    columns = {"instruction": "Frage", "output": "Antwort", "input": "Eingabe"}
    columns[wrong] = columns[wrong][:-2] + columns[wrong][-1]
    said = refused(write("a.json", GERMAN), format=named, columns=columns)
    near = "Frage" if wrong == "instruction" else "Eingabe"
    assert f"no {columns[wrong]!r} (for {wrong}); did you mean {near!r}?" in said


def test_a_column_that_only_later_rows_have_is_no_mistake(write):
    rows = [{"Frage": "a", "Antwort": "b"}, {"Frage": "a", "Antwort": "b", "Eingabe": "c"}]
    columns = {"instruction": "Frage", "output": "Antwort", "input": "Eingabe"}
    source = Source(path=str(write("a.json", rows)), columns=columns)
    assert detect(locate(source.path), source).format == "alpaca"


def test_columns_are_suggested_for_the_run_file_and_the_command_line(write):
    said = refused(write("a.json", [{"my question": "a", "reply": "b"}]))
    assert "`columns: {prompt: my question, completion: reply}`" in said
    assert "`--column prompt='my question' --column completion=reply`" in said


def test_a_table_without_a_line_of_names_is_told_so(write):
    line = "Who jumps over the lazy dog?,The quick brown fox\n"
    assert "the first line of the file looks like a row" in refused(write("a.csv", line * 3))
    assert "looks like a row" not in refused(write("a.csv", "Frage,Antwort\nWer?,Er.\n"))


def test_one_side_of_preference_pairs_keeps_the_input(write):
    row = {"instruction": "i", "input": "x", "chosen": "a", "rejected": "b"}
    said = refused(write("a.json", [row]))
    assert "say `format: alpaca` with `columns: {output: chosen}`" in said
    source = Source(path=str(write("a.json", [row])), format="alpaca", columns={"output": "chosen"})
    assert "not read: rejected" in detect(locate(source.path), source).reason
    row = {"prompt": "i", "chosen": "a", "rejected": "b"}
    assert "`columns: {prompt: prompt, completion: chosen}`" in refused(write("a.json", [row]))


def test_a_list_in_a_file_of_lines_is_to_be_named_json(write):
    assert "if the file is one list of rows, name it .json" in refused(write("a.jsonl", "[1, 2]\n"))
