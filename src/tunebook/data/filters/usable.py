"""Say of every row, before any filter, whether anything can be learned from it."""

from __future__ import annotations

from tunebook.records import Example


def unusable(example: Example) -> str | None:
    """Give the reason why nothing can be learned from a row, or None.

    A persona or another system message is enough of a prompt for an answer that opens a talk.
    """
    asked = answered = False
    for message in example.messages:
        role = message.role
        if role == "text":
            return None if any(m.content.strip() for m in example.messages) else "empty text"
        if role == "assistant" and message.trained:
            answered = True
            if not message.content.strip():
                return "empty answer"
        elif role != "assistant" and not asked:
            asked = bool(message.content.strip())
    if not answered:
        return "no target tokens"
    return None if asked else "empty prompt"
