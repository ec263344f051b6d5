"""What words of a text differ from another's."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

MOST_WORDS = 2_000
"""Longer texts are shown without a diff: its time grows with the square of their length."""

_WORD = re.compile(r"\w")
_TOKEN = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text that both have, or that only the new or the old one has."""

    kind: Literal["same", "new", "old"]
    text: str


def word_diff(old: str, new: str) -> list[Piece] | None:
    """Cut the new text into what it shares with the old one and what not; None for a long one."""
    a, b = _TOKEN.findall(old), _TOKEN.findall(new)
    if max(len(a), len(b)) > 2 * MOST_WORDS:
        return None
    # Common words such as "the" would be junk to it, and what is the same would be marked.
    found = difflib.SequenceMatcher(None, a, b, autojunk=False)
    pieces, old_words, new_words = list[Piece](), "", ""

    def close() -> None:
        nonlocal old_words, new_words
        if old_words:
            pieces.append(Piece("old", old_words))
        if new_words:
            pieces.append(Piece("new", new_words))
        old_words = new_words = ""

    for kind, i, j, k, m in found.get_opcodes():
        left, came = "".join(a[i:j]), "".join(b[k:m])
        if kind == "equal" and (_WORD.search(came) or not (old_words or new_words)):
            close()
            pieces.append(Piece("same", came))
        else:  # a space or a comma that happens to be the same splits no change in two
            old_words, new_words = old_words + left, new_words + came
    close()
    return pieces


def cut_at(pieces: list[Piece], most: int) -> tuple[list[Piece], list[Piece]]:
    """Split pieces where their text is longer than `most` characters; nothing is lost."""
    head, rest = list[Piece](), list[Piece]()
    left = most
    for piece in pieces:
        if left > 0:
            head.append(Piece(piece.kind, piece.text[:left]))
        if len(piece.text) > left:
            rest.append(Piece(piece.kind, piece.text[max(left, 0) :]))
        left -= len(piece.text)
    return head, rest
