"""`tunebook data show`: the format, the rows and one row as the model sees it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tunebook.cli.data import command
from tunebook.data.show import mark_tokens, show_data
from tunebook.errors import DataError
from tunebook.recipe.tree import Source


@pytest.fixture
def run(monkeypatch, codec):
    """Give a function that calls the command with the small tokenizer."""
    monkeypatch.setattr("tunebook.workflows.data_show.load_tokenizer", lambda model: codec)

    def call(*arguments: object):
        return CliRunner().invoke(command, ["show", *map(str, arguments)], catch_exceptions=False)

    return call


def test_it_prints_format_rows_drops_lengths_and_a_marked_row(run, write):
    rows = [{"prompt": "Who?", "completion": "A fox."}, {"prompt": "x", "completion": " "}]
    result = run(write("a.jsonl", rows), "--template", "chat")
    assert result.exit_code == 0
    assert "format     completion: rows have prompt and completion" in result.output
    assert "2 in, 1 dropped, 1 out" in result.output
    assert "1 empty answer: a#2" in result.output
    assert "User: Who?\nAssistant:⟦ A fox.<|endoftext|>⟧" in result.output


def test_its_json_has_the_promised_keys(run, write):
    path = write("a.jsonl", [{"question": "Who?", "answer": "A fox."}] * 3)
    result = run(path, "--json", "--column", "prompt=question", "--column", "response=answer")
    found = json.loads(result.output)
    assert list(found)[:6] == ["format", "rows", "columns", "source", "lengths", "sample"]
    assert (found["format"], found["rows"]) == ("completion", 3)
    assert found["columns"] == ["question", "answer"]
    assert set(found["lengths"]) == {"n", "mean", "median", "p95", "max"}
    text = "".join(token["text"] for token in found["sample"] if token["target"])
    assert text == "A fox.<|endoftext|>"


def test_text_is_shown_for_continued_training(run, write):
    result = run(write("a.txt", "It was night.\n"), "--json")
    found = json.loads(result.output)
    assert (found["stage"], found["template"], found["format"]) == ("cpt", "text", "text")


def test_a_column_option_without_equals_is_a_usage_error(run, write):
    result = run(write("a.jsonl", [{"text": "x"}]), "--column", "prompt")
    assert result.exit_code == 2
    assert "'prompt' is not NAME=OWN" in result.output


def test_nothing_left_to_show_is_an_error(write, codec):
    path = write("a.jsonl", [{"prompt": "a", "completion": ""}])
    with pytest.raises(DataError, match="no row is left: 1 in, dropped 1 empty answer"):
        show_data(Source(path=str(path)), codec)


def test_marked_tokens_add_up_to_the_row_and_never_cut_a_character(codec):
    ids = tuple(codec.encode("snow 雪 é", specials=False)[0])
    shown = mark_tokens(codec, ids, (True,) * len(ids))
    assert "".join(token.text for token in shown) == "snow 雪 é"
    assert not any("\ufffd" in token.text for token in shown)
