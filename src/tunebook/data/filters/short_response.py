"""Drop rows whose answer has few words."""

from __future__ import annotations

from typing import Annotated

from tunebook.data.filters.chain import Filter
from tunebook.data.filters.settings import Between
from tunebook.data.filters.words import count_answer_words
from tunebook.records import Example


class ShortResponse(Filter):
    """Drops answers (or texts) of fewer than `min_words` words between white space."""

    def __init__(self, min_words: Annotated[int, Between(0)] = 3) -> None:
        self.min_words = min_words

    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it."""
        short = count_answer_words(example) < self.min_words
        return "short response" if short else None
