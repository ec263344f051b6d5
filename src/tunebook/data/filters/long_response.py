"""Drop rows whose answer has many words."""

from __future__ import annotations

from typing import Annotated

from tunebook.data.filters.chain import Filter
from tunebook.data.filters.settings import Between
from tunebook.data.filters.words import count_answer_words
from tunebook.records import Example


class LongResponse(Filter):
    """Drops answers (or texts) of more than `max_words` words between white space."""

    def __init__(self, max_words: Annotated[int, Between(0)] = 1000) -> None:
        self.max_words = max_words

    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it."""
        long = count_answer_words(example) > self.max_words
        return "long response" if long else None
