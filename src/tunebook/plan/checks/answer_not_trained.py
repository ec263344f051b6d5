"""Do the tokens that carry loss say what was to be learned, and nothing of what was asked?"""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.answers import read_answers
from tunebook.plan.subject import Subject
from tunebook.records import Finding


def check(subject: Subject) -> Iterator[Finding]:
    """Refuse rows whose answers do not carry loss, and those whose prompts do."""
    seen = read_answers(subject)
    if seen.unwritten:
        what = "do not have all of their answer, for the chat template leaves a part of it out"
        way_out = (
            "say `template: chat`, which writes answers whole, or take out of the data what the "
            "model's template leaves out"
        )
        yield seen.finding("answer-not-trained", seen.unwritten, what, way_out)
    if seen.untrained:
        what = "do not carry loss on all of their answer"
        yield seen.finding("answer-not-trained", seen.untrained, what)
    if seen.prompts:
        what = "carry loss on their prompt, not only the answer"
        yield seen.finding("prompt-trained", seen.prompts, what)
