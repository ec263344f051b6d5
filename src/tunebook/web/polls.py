"""Which two a ballot is of: pages carry a word that means nothing instead of their names."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence

from tunebook.errors import UsageError

Poll = tuple[tuple[str, ...], int]
"""Two names and the seed that their places are drawn by."""


class Polls:
    """The polls that this server was asked for; `casting` lets one vote be cast at a time."""

    def __init__(self) -> None:
        self.casting = threading.Lock()
        self._words: dict[Poll, str] = {}
        self._polls: dict[str, Poll] = {}

    def word_for(self, names: Sequence[str], seed: int) -> str:
        """Give the word of a poll, the same every time."""
        poll = tuple(names), seed
        word = self._words.setdefault(poll, secrets.token_urlsafe(9))
        self._polls[word] = poll
        return word

    def find(self, word: str) -> Poll:
        """Give names and seed back; UsageError for a word of another server."""
        if word not in self._polls:
            raise UsageError(
                "this ballot is of a server that was started again since; open the page again"
            )
        return self._polls[word]
