"""Which two a ballot is of: pages carry a word that means nothing instead of their names."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass

from tunebook.errors import UsageError

MOST_POLLS = 1000


@dataclass(frozen=True, slots=True)
class Poll:
    """Two names, the seed that their places are drawn by, and which of their answers it is on."""

    names: tuple[str, ...]
    seed: int = 0
    answers: str | None = None


class Polls:
    """The polls that this server was asked for; `casting` lets one vote be cast at a time."""

    def __init__(self) -> None:
        self.casting = threading.Lock()
        self._words: dict[Poll, str] = {}
        self._polls: dict[str, Poll] = {}

    def word_for(self, poll: Poll) -> str:
        """Give the word of a poll, the same every time."""
        word = self._words.setdefault(poll, secrets.token_urlsafe(9))
        self._polls[word] = poll
        # Every seed is another poll; the oldest page can be opened again.
        while len(self._polls) > MOST_POLLS:
            oldest = next(iter(self._polls))
            self._words.pop(self._polls.pop(oldest), None)
        return word

    def find(self, word: str) -> Poll:
        """Give the poll of a word back; UsageError for a word of another server."""
        if word not in self._polls:
            raise UsageError(
                "this ballot is too old, or of a server that was started again since; open the "
                "page again"
            )
        return self._polls[word]
