"""What words of a text differ from another's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MOST_WORDS = 5_000
"""Longer texts are shown without a diff, which takes a bit for every pair of their words."""
_BETWEEN_CHANGES = 3
"""A word or two that stay between changes of so many words are chance, and harder to read."""

_WORD = re.compile(r"(\w+|[^\w\s])\s*")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text that both have, or that only the new or the old one has."""

    kind: Literal["same", "new", "old"]
    text: str


@dataclass(slots=True)
class _Change:
    """So many words of the old and the new text, from one place of each to another."""

    same: bool
    old: tuple[int, int]
    new: tuple[int, int]


def word_diff(old: str, new: str) -> list[Piece] | None:
    """Cut the new text into what it shares with the old one and what not; None for a long one.

    Words are compared without the spaces around them, which are the new text's where both agree.
    """
    (a, old_words), (b, new_words) = _split(old), _split(new)
    if max(len(a), len(b)) > MOST_WORDS:
        return None
    start = new[: len(new) - len(new.lstrip())]
    pieces = [Piece("same", start)] if start else []
    for one in _joined(_changes(a, b)):
        left = "".join(old_words[slice(*one.old)])
        came = "".join(new_words[slice(*one.new)])
        if one.same:
            pieces.append(Piece("same", came))
            continue
        if left:
            pieces.append(Piece("old", left))
        if came:
            pieces.append(Piece("new", came))
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


def _split(text: str) -> tuple[list[str], list[str]]:
    """Give words and signs, and the same with the spaces after them."""
    found = list(_WORD.finditer(text))
    return [one[1] for one in found], [one[0] for one in found]


def _changes(a: Sequence[str], b: Sequence[str]) -> list[_Change]:
    """Cut two lists of words into stretches that are the same and that are not, in turn."""
    found, i, j = list[_Change](), 0, 0
    for k, m in [*_common(a, b), (len(a), len(b))]:
        if i < k or j < m:
            found.append(_Change(False, (i, k), (j, m)))
        if k == len(a) and m == len(b):
            break
        last = found[-1] if found else None
        if last is not None and last.same:
            last.old, last.new = (last.old[0], k + 1), (last.new[0], m + 1)
        else:
            found.append(_Change(True, (k, k + 1), (m, m + 1)))
        i, j = k + 1, m + 1
    return found


def _joined(changes: Sequence[_Change]) -> list[_Change]:
    """Take what is the same by chance between two changes into them."""
    found = list[_Change]()
    for place, one in enumerate(changes):
        after = changes[place + 1] if place + 1 < len(changes) else None
        joins = bool(found) and not found[-1].same and (not one.same or _by_chance(one, after))
        if joins:
            last = found[-1]
            found[-1] = _Change(False, (last.old[0], one.old[1]), (last.new[0], one.new[1]))
        else:
            found.append(_Change(one.same, one.old, one.new))
    return found


def _by_chance(one: _Change, after: _Change | None) -> bool:
    if after is None:
        return False
    return 2 * _size(one) <= _size(after) and _size(after) >= _BETWEEN_CHANGES


def _size(one: _Change) -> int:
    return max(one.old[1] - one.old[0], one.new[1] - one.new[0])


def _common(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Find a longest common subsequence, as places in both.

    Bit-parallel (Hyyrö, Bit-parallel LCS-length computation revisited, 2004): bit i of row j is 0
    where a[i] makes the subsequence of a[:i + 1] and b[:j + 1] longer.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    every = (1 << len(a)) - 1
    row, rows = every, list[int]()
    for word in b:
        fits = row & places.get(word, 0)
        row = ((row + fits) | (row - fits)) & every
        rows.append(row)
    found, i, j = list[tuple[int, int]](), len(a) - 1, len(b) - 1
    while i >= 0 and j >= 0:
        if a[i] == b[j]:
            found.append((i, j))
            i, j = i - 1, j - 1
        elif rows[j] >> i & 1:
            i -= 1
        else:
            j -= 1
    return found[::-1]
