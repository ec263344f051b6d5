"""Do the tokens that carry loss say what was to be learned, and nothing of what was asked?"""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.answers import read_answers
from tunebook.plan.subject import Subject
from tunebook.records import Finding


def check(subject: Subject) -> Iterator[Finding]:
    """Refuse rows whose answers do not carry loss, and those whose prompts do."""
    seen = read_answers(subject)
    if seen.untrained:
        what = "do not carry loss on all of their answer"
        yield seen.finding("answer-not-trained", seen.untrained, what)
    if seen.prompts:
        what = "carry loss on their prompt, not only the answer"
        yield seen.finding("prompt-trained", seen.prompts, what)
