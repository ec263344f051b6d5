"""Which words of an answer are new: nothing is lost, and no single letter is marked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunebook.pages.word_diff import MOST_WORDS, Piece, cut_at, word_diff

TEXTS = st.text(alphabet="abc ,.\n", max_size=40)


def text_of(pieces: list[Piece], *kinds: str) -> str:
    return "".join(piece.text for piece in pieces if piece.kind in kinds)


def test_words_are_marked_whole() -> None:
    assert word_diff("a small light", "a smaller light") == [
        Piece("same", "a "),
        Piece("old", "small "),
        Piece("new", "smaller "),
        Piece("same", "light"),
    ]


def test_a_word_between_long_changes_that_is_the_same_by_chance_does_not_split_them() -> None:
    found = word_diff("x one two three the four five six y", "x so it is the way it ends y")
    assert [piece.kind for piece in found or []] == ["same", "old", "new", "same"]


@given(TEXTS, TEXTS)
def test_both_texts_are_in_the_pieces_whole(old: str, new: str) -> None:
    pieces = word_diff(old, new) or []
    assert text_of(pieces, "same", "new") == new
    assert "".join(text_of(pieces, "same", "old").split()) == "".join(old.split())


@given(TEXTS)
def test_the_same_words_are_all_the_same(text: str) -> None:
    assert {piece.kind for piece in word_diff(text, text) or []} <= {"same"}


@given(TEXTS, TEXTS, st.integers(1, 30))
def test_cutting_loses_nothing(old: str, new: str, most: int) -> None:
    pieces = word_diff(old, new) or []
    head, rest = cut_at(pieces, most)
    every = ("same", "new", "old")
    assert text_of([*head, *rest], *every) == text_of(pieces, *every)
    assert len(text_of(head, *every)) <= most


def test_very_long_texts_are_not_held_against_each_other() -> None:
    assert word_diff("a " * (MOST_WORDS + 1), "b") is None
