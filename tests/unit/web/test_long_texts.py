"""A page that somebody else wrote keeps the server at work for seconds at most."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.book.markers import author_words, generated_part, merge_page
from tunebook.web.app import make_app
from tunebook.web.book_markdown import (
    MOST_BRACKETS,
    MOST_INLINE,
    MOST_LETTERS,
    MOST_PLAIN,
    MOST_SIGNS,
    Sheet,
    render,
    sections,
)
from tunebook.web.markup import untagged

SECONDS = 10.0
"""Of a processor that others use too. These take 2 at most; without bounds, a minute and more."""


def filled(part: str, letters: int = MOST_LETTERS) -> str:
    return (part * (letters // len(part) + 1))[:letters]


@pytest.mark.parametrize(
    "text",
    [
        filled("!["),
        filled("![" * (MOST_INLINE // 2 - 2) + "\n\n"),
        filled("[" * MOST_BRACKETS + "_a" * (MOST_INLINE // 2 - MOST_BRACKETS) + "\n\n"),
        filled("*_" * (MOST_INLINE // 2 - 2) + "\n\n"),
        filled("*_" * (MOST_SIGNS // 2) + filled("a\n", MOST_PLAIN - MOST_SIGNS - 3) + "a\n\n"),
        "|a" * 2000 + "\n" + "|-" * 2000 + "\n" + filled("|b\n", 60_000),
    ],
    ids=["pictures", "paragraphs", "brackets", "stars", "prose", "table"],
)
def test_the_worst_markdown_is_rendered_in_seconds(text: str) -> None:
    began = time.process_time()
    render(text)
    assert time.process_time() - began < SECONDS


def test_as_many_headings_of_one_name_as_there_can_be_are_told_apart_in_seconds() -> None:
    began = time.process_time()
    page = render(filled("# a\n", MOST_LETTERS // 2), "run_1", Sheet({"run_1"}))
    assert time.process_time() - began < SECONDS
    ids = [part.partition('"')[0] for part in page.split(' id="')[1:]]
    assert len(set(ids)) == len(ids) == MOST_LETTERS // 8
    assert ids[:2] == ["in-run_1--a", "in-run_1--a--2"]


def test_what_is_too_long_is_shown_as_text_and_said() -> None:
    page = render("*x* <b>" + filled("a ", MOST_LETTERS))
    assert "too long to be formatted" in page
    assert "*x* &lt;b&gt;a a" in page
    assert sections("## a\n" + filled("a ", MOST_LETTERS)) == []
    assert "too long" not in render(filled("words\n\n", MOST_LETTERS))


def test_a_paragraph_that_is_too_long_is_text_and_those_beside_it_are_formatted() -> None:
    page = render("*one*\n\n*two*" + filled(" word", MOST_PLAIN) + "\n\n*three*\n")
    assert all(part in page for part in ("<em>one</em>", "*two* word", "<em>three</em>"))
    assert page.count("too long to be formatted") == 1


def test_a_long_paragraph_of_plain_prose_is_formatted() -> None:
    prose = "*one* " * (MOST_SIGNS // 2)
    prose += filled("word ", MOST_PLAIN - len(prose) - 4) + "last"
    page = render(prose)
    assert (page.count("<em>one</em>"), "too long" in page) == (MOST_SIGNS // 2, False)
    assert "too long to be formatted" in render(prose + "s")
    assert "too long to be formatted" in render(prose.replace("word", "wor!", 1))


def test_a_paragraph_of_too_many_brackets_is_text() -> None:
    formatted = render("[*a*" * MOST_BRACKETS)
    assert formatted.count("<em>a</em>") == MOST_BRACKETS
    assert "too long" not in formatted
    assert "too long to be formatted" in render("[*a*" * (MOST_BRACKETS + 1))


@pytest.mark.parametrize(
    ("note", "shown"),
    [
        ("a #b #c-d", "a"),
        ("a #b c #d", "a #b c"),
        ("#a #b", "#a"),
        ("a #-", "a #-"),
        ("", ""),
        ("a\n#b", "a"),
    ],
)
def test_tags_at_the_end_of_a_note_are_left_out(note: str, shown: str) -> None:
    assert untagged(note) == shown


def test_a_note_of_many_tags_is_shown_at_once() -> None:
    began = time.process_time()
    note = " #a" * 60_000 + "!"
    assert untagged(note) == note
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize(
    "line", ["<!-- tunebook:begin -->\n", "# <!-- tunebook:begin -->\n<!-- tunebook:end -->\n"]
)
def test_a_page_of_many_markers_is_read_at_once(line: str) -> None:
    page = line * (1_000_000 // len(line)) + "<!-- tunebook:end -->\n"
    began = time.process_time()
    assert author_words(page)
    assert generated_part(page) == ""
    assert time.process_time() - began < SECONDS
    assert page in merge_page("new", page)


def test_a_note_of_brackets_leaves_its_page_readable(book: Path) -> None:
    run = make_run(book, "run_1")
    run.notebook_md.write_text(filled("![](", 200_000))
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    began = time.process_time()
    for path in ("/notebook/run_1", "/runs/run_1"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "too long to be formatted" in answer.text
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize("link", ["[a] ", "![a][a] ", "[*a*][a] "])
@pytest.mark.parametrize("address", ["/", "https://example.com/", "runs/"])
def test_an_address_that_is_linked_thousands_of_times_is_written_out_for_a_while_only(
    link: str, address: str
) -> None:
    text = f"[a]: {address}{'&' * 30_000}\n\n" + (link * 200 + "\n\n") * 40
    page = render(text)
    assert len(page) < 8 * MOST_LETTERS
    assert page.count("a") >= 8000


def test_a_figure_that_is_asked_for_often_is_drawn_once() -> None:
    figure = "<svg>" + "x" * 50_000 + "</svg>"
    text = ("![](curve.svg) " * 100 + "\n\n") * 10
    page = render(text, "run_1", Sheet({"run_1"}, figure))
    assert page.count(figure) == 1
    assert page.count("![](curve.svg)") == 999
