"""`tunebook data show`: the format, the rows and one row as the model sees it."""

from __future__ import annotations

import json
import time

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


@pytest.mark.parametrize(
    ("text", "shown", "more"),
    [
        ("word " * 5000, "word " * 800, 21_000),
        ("a line\n" * 100, ("a line\n" * 40)[:-1], 421),
    ],
)
def test_of_a_long_row_the_beginning_is_printed_and_all_of_it_on_request(
    run, write, text, shown, more
):
    path = write("a.jsonl", [{"text": text}])
    end = "<|endoftext|>"

    def row(*options):
        printed = run(path, *options).output.partition("marked\n\n")[2]
        return printed.replace("⟦", "").replace("⟧", "")

    begun, _, rest = row().partition("\n… ")
    assert begun == shown
    assert rest == f"{more + len(end):,} characters more (--full shows all)\n"
    assert row("--full") == f"{text}{end}\n"
    tokens = json.loads(run(path, "--json").output)["sample"]
    assert "".join(token["text"] for token in tokens) == text + end


def test_a_short_row_is_printed_whole(run, write):
    assert "more (--full" not in run(write("a.txt", "It was night.\n")).output


def test_it_is_noted_when_prompt_and_answer_touch(run, write):
    path = write("a.jsonl", [{"prompt": "Who?", "completion": "A fox."}])
    assert "note       prompt and answer touch" in run(path, "--template", "none").output
    assert "touch" not in run(path, "--template", "qa").output
    for spaced in (
        {"prompt": "Who? ", "completion": "I."},
        {"prompt": "Who?", "completion": " I."},
    ):
        assert "touch" not in run(write("b.jsonl", [spaced]), "--template", "none").output


def test_the_files_of_a_folder_are_counted(run, write, tmp_path):
    for name in ("a.txt", "b.txt", "notes.pdf"):
        write(f"d/{name}", "It was night.\n")
    said = "note       2 files are read, 1 is left out: notes.pdf"
    assert said in run(tmp_path / "d").output


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


def test_of_a_long_row_only_the_begin_is_decoded_unless_all_is_asked_for(write, codec, run):
    path = write("a.jsonl", [{"prompt": "a", "completion": "b " * 400_000}])
    began = time.monotonic()
    shown = run(path).output
    assert time.monotonic() - began < 10
    assert " tokens (--full shows all)" in shown.splitlines()[-1]
    found = show_data(Source(path=str(path)), codec, whole=False)
    assert len(found.sample) == 32_768 < found.sample_tokens == found.tokens


def test_a_row_of_signs_that_stand_for_no_character_is_marked_in_time_with_its_length(codec):
    ids = tuple(codec.encode("\ufffd" * 20_000, specials=False)[0])
    began = time.monotonic()
    shown = mark_tokens(codec, ids, (True,) * len(ids))
    assert "".join(token.text for token in shown) == "\ufffd" * 20_000
    assert time.monotonic() - began < 20
