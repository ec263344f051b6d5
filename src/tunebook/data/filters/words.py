"""Count the words of what is answered, for filters by length."""

from __future__ import annotations

from tunebook.records import Example


def count_answer_words(example: Example) -> int:
    """Count the words of all answers of an example, or of its text."""
    return sum(len(m.content.split()) for m in example.messages if m.role in ("assistant", "text"))
