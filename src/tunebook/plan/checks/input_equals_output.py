"""input-equals-output: a task whose answer is what was given teaches to repeat it."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.prompt_texts import take_apart
from tunebook.plan.rows import first_exchanges
from tunebook.plan.subject import Subject
from tunebook.records import Finding

_LIMIT, _LEAST_ROWS = 0.2, 5


def check(subject: Subject) -> Iterator[Finding]:
    """Count rows whose answer is just what the row's own words in the prompt are."""
    exchanges = first_exchanges(subject)
    for texts in take_apart(subject):
        mine = [one for one in exchanges if one.row.source == texts.source]
        same = [
            one
            for one, own in zip(mine, texts.own, strict=True)
            if any(block.split() == one.answer.split() for block in own)
        ]
        share = len(same) / len(mine)
        if share <= _LIMIT or len(same) < _LEAST_ROWS:
            continue
        yield Finding(
            "input-equals-output",
            "warn",
            f"{texts.source}: in {share:.0%} of {len(mine)} sampled rows the answer is what was "
            "given, so the task is done before the model begins",
            {
                "share": share,
                "sampled_rows": len(mine),
                "rows": [one.row.id for one in same[:5]],
                "example": {"prompt": same[0].prompt[-300:], "answer": same[0].answer[:100]},
            },
            "look at how the input was made (is it sorted, or corrected, already?), or drop these "
            "rows",
        )
