"""Drop conversations of short answers, the shorter the likelier."""

from __future__ import annotations

import statistics
from typing import Annotated

from tunebook.data.examples import content_key
from tunebook.data.filters.chain import Filter
from tunebook.data.filters.settings import Between
from tunebook.records import Example

# Mixed into the hash of the row: what a split holds out and what is dropped must not go together.
_SALT = 0x9E3779B97F4A7C15


class ShortResponseRamp(Filter):
    """Drops by the median words of the answers: all up to `drop_to`, none from `keep_from` on.

    Between the two a row is dropped with a probability that falls linearly from 1 to 0, decided by
    a hash of what the row says, so that the same rows fall in every run. The median is over all
    answers of the row, those that are context too. Source: the chat notebook's recipe (8 and 48).
    """

    def __init__(
        self, drop_to: Annotated[int, Between(0)] = 8, keep_from: Annotated[int, Between(1)] = 48
    ) -> None:
        if keep_from <= drop_to:
            raise ValueError(f"keep_from is {keep_from}, and must be above drop_to, {drop_to}")
        self.drop_to, self.keep_from = drop_to, keep_from

    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it."""
        words = [
            len(m.content.split()) for m in example.messages if m.role in ("assistant", "text")
        ]
        if not words:
            return None
        kept = (statistics.median(words) - self.drop_to) / (self.keep_from - self.drop_to)
        if kept >= 1:
            return None
        if kept > 0:
            mixed = (content_key(example.messages) ^ _SALT) * _SALT % 2**64
            if mixed / 2**64 < kept:
                return None
        return "short responses"
