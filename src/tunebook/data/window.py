"""What is left out of a talk that is too long: the oldest turns, as few as do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tunebook.records import Example


def count_to_leave_out(example: Example, fits: Callable[[Example], bool]) -> int:
    """Count the oldest turns to leave out of an example that does not fit; 0 where none helps.

    What stands before `window_from` stays, and so does what the last answer answers.
    """
    best, low, high = 0, 1, most_to_leave_out(example)
    while low <= high:
        n_out = (low + high) // 2
        if fits(without_oldest(example, n_out)):
            best, high = n_out, n_out - 1
        else:
            low = n_out + 1
    return best


def most_to_leave_out(example: Example) -> int:
    """Count the turns between what always stays and what the last answer answers."""
    assert example.window_from is not None
    return _last_question(example) - example.window_from


def without_oldest(example: Example, n_out: int) -> Example:
    """Give an example without so many of its oldest turns."""
    first = example.window_from
    assert first is not None
    return replace(
        example, messages=(*example.messages[:first], *example.messages[first + n_out :])
    )


def _last_question(example: Example) -> int:
    """Give the place of what the last answer answers, with the knowledge that stands before it."""
    last = len(example.messages) - 1
    asked = next((i for i in range(last - 1, -1, -1) if example.messages[i].role == "user"), last)
    while asked and example.messages[asked - 1].role in ("knowledge", "input"):
        asked -= 1
    return asked
