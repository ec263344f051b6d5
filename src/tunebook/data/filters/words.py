"""Find what an example teaches, and count its words."""

from __future__ import annotations

from tunebook.records import Example


def trained_texts(example: Example) -> list[str]:
    """Give the answers that are trained on, or the text; answers that are context are left out."""
    return [m.content for m in example.messages if m.role in ("assistant", "text") and m.trained]


def count_answer_words(example: Example) -> int:
    """Count the words of all trained answers of an example, or of its text."""
    return sum(len(text.split()) for text in trained_texts(example))
