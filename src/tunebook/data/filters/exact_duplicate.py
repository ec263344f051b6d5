"""Drop rows that say exactly what an earlier row of the source said."""

from __future__ import annotations

from tunebook.data.examples import content_key
from tunebook.records import Example


class ExactDuplicate:
    """Keeps the first of identical rows; 8 bytes of hash are remembered per row."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it."""
        key = content_key(example.messages)
        if key in self._seen:
            return "exact duplicate"
        self._seen.add(key)
        return None
