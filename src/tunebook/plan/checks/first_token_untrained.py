"""Does the loss begin with the first token of an answer and end with its last?"""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.answers import read_answers
from tunebook.plan.subject import Subject
from tunebook.records import Finding


def check(subject: Subject) -> Iterator[Finding]:
    """Refuse rows whose answers carry loss but for their first or last tokens."""
    seen = read_answers(subject)
    rows = list(dict.fromkeys([*seen.unbegun, *seen.unended]))
    if rows:
        which = "first" if seen.unbegun else "last"
        what = f"carry no loss on the {which} token of an answer"
        yield seen.finding("first-token-untrained", rows, what)
