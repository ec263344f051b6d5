"""input-equals-output: a task whose answer is what was given teaches to repeat it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from tunebook.plan.prompt_texts import lines_of, take_apart
from tunebook.plan.rows import first_exchanges
from tunebook.plan.subject import Subject
from tunebook.records import Finding

_LIMIT, _LEAST_ROWS = 0.2, 5


def check(subject: Subject) -> Iterator[Finding]:
    """Count rows whose answer is just what the row's own words in the prompt are."""
    codec, exchanges = subject.codec, first_exchanges(subject)
    if codec is None:
        return
    for texts in take_apart(subject):
        fixed = {text.strip() for text in texts.fixed}
        mine = [one for one in exchanges if one.row.source == texts.source]
        same = [
            one
            for one, own in zip(mine, texts.own, strict=True)
            if any(block.split() == one.answer.split() for block in own)
            or _has_lines(lines_of(one.prompt, codec), lines_of(one.answer, codec), fixed)
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


def _has_lines(prompt: Sequence[str], answer: Sequence[str], fixed: Collection[str]) -> bool:
    """Tell whether the lines of an answer are all that stands between fixed texts of a prompt.

    Inputs may share lines with each other, as code does, which then look like fixed texts.
    """
    n = len(answer)
    if n < 2 or all(line in fixed for line in answer):
        return False
    for at in range(len(prompt) - n + 1):
        if not prompt[at].endswith(answer[0]) or prompt[at + 1 : at + n] != answer[1:]:
            continue
        head = prompt[at].removesuffix(answer[0]).strip()
        begins = head in fixed if head else at == 0 or prompt[at - 1] in fixed
        if begins and (at + n == len(prompt) or prompt[at + n] in fixed):
            return True
    return False
