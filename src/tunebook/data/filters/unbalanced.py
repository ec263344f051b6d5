"""Drop rows whose answer opens an action or a quotation and does not close it."""

from __future__ import annotations

import re

from tunebook.data.filters.chain import Filter
from tunebook.data.filters.words import trained_texts
from tunebook.records import Example

_BULLET = re.compile(r"^[ \t]*\*(?=[ \t])", re.MULTILINE)


class Unbalanced(Filter):
    """Drops rows with an odd number of one of the `signs` in an answer (or a text).

    A `*` that begins a line as the bullet of a list does not count.
    """

    def __init__(self, signs: str = '*"') -> None:
        if not signs or signs.split() != [signs]:
            raise ValueError(f"signs is {signs!r}, and must be signs without white space")
        self.signs = signs

    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it."""
        for text in trained_texts(example):
            for sign in self.signs:
                n_signs = text.count(sign)
                if n_signs % 2 and sign == "*":
                    n_signs -= len(_BULLET.findall(text))
                if n_signs % 2:
                    return f"unbalanced {sign}"
        return None
