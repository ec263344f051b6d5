"""answer-in-prompt: what a model can copy it does not learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunebook.plan.rows import Exchange, first_exchanges
from tunebook.plan.subject import Subject
from tunebook.records import Finding

_LEAST_ROWS = 5
_CLASSES = ((30, 0.1), (8, 0.3), (1, 0.5))
"""Answers of at least so many characters, and the share of them that may stand in their prompts."""

_FEW_WORDS = range(2, 9)


def check(subject: Subject) -> Iterator[Finding]:
    """Count answers that stand in their own prompt, less those that stand in another row's."""
    by_source: dict[str, list[Exchange]] = {}
    for one in first_exchanges(subject):
        if one.answer:
            by_source.setdefault(one.row.source, []).append(one)
    for source, exchanges in by_source.items():
        # What stands in the prompt of any other row as well stands there by chance.
        others = [one.prompt for one in exchanges[1:] + exchanges[:1]]
        upper = 10**9
        for least, allowed in _CLASSES:
            places = [i for i, e in enumerate(exchanges) if least <= len(e.answer) < upper]
            upper = least
            if len(places) < _LEAST_ROWS:
                continue
            own = [i for i in places if stands_in(exchanges[i].answer, exchanges[i].prompt)]
            chance = sum(stands_in(exchanges[i].answer, others[i]) for i in places) / len(places)
            if len(own) / len(places) - chance > allowed:
                yield _finding(source, [exchanges[i] for i in own], len(places), chance, least)
                break


def stands_in(answer: str, prompt: str) -> bool:
    """Say whether an answer is in a prompt: as it is, or all of its few words in their order."""
    if answer in prompt:
        return True
    words = answer.split()
    if len(words) not in _FEW_WORDS:
        return False
    there = iter(prompt.split())
    return all(word in there for word in words)


def _finding(
    source: str, found: Sequence[Exchange], n_rows: int, chance: float, least: int
) -> Finding:
    share = len(found) / n_rows
    return Finding(
        "answer-in-prompt",
        "warn",
        f"{source}: of {n_rows} sampled answers of {least} or more characters {share:.0%} stand in "
        f"their own prompt, and {chance:.0%} in another row's, so they can be copied",
        {
            "share": share,
            "by_chance": chance,
            "sampled_rows": n_rows,
            "rows": [one.row.id for one in found[:5]],
            "example": {"prompt": found[0].prompt[-300:], "answer": found[0].answer[:100]},
        },
        "leave the answer out of the prompt (mask it), unless copying is what the model shall do",
    )
