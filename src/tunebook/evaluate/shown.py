"""What was answered to a few prompts, beside how much of it is in the style of the domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunebook.errors import UsageError
from tunebook.evaluate.probes import Output, Probed, halves_of, style_cuts, style_ratio


def refuse_unasked(wanted: Sequence[str], asked: Sequence[str]) -> None:
    """Raise UsageError for a prompt that the probe does not ask."""
    if missing := [one for one in wanted if one not in asked]:
        raise UsageError(
            f"--show {missing[0]}: no prompt of this probe says that; put it into a file of "
            "prompts, and give that to --probes"
        )


def shown_answers(probed: Probed, tuned: str, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Give the answers to each prompt that says one of `wanted`, of the base and the tuned.

    One entry for a prompt: several questions with the same words are taken together. `in_style`
    is the share of answers in the style of the domain, cut as for spill-over; None where there
    are no references to cut by.
    """
    halves = halves_of(probed)
    cuts = style_cuts(probed, tuned, halves)
    found = []
    for text in dict.fromkeys(wanted):
        by_author = {
            who: [one for one in probed.outputs[who] if one.question.text == text]
            for who in (probed.base, tuned)
        }
        found.append(
            {
                "prompt": text,
                "groups": sorted({one.question.group for one in by_author[tuned]}),
                "answers": {who: [one.text for one in each] for who, each in by_author.items()},
                "in_style": None
                if cuts is None
                else {
                    who: _share(each, tuned, probed.base, halves, cuts)
                    for who, each in by_author.items()
                },
            }
        )
    return found


def _share(
    outputs: Sequence[Output],
    tuned: str,
    base: str,
    halves: Mapping[str, int],
    cuts: Sequence[tuple[float, float]],
) -> float:
    flags = [
        ratio is not None and ratio > cuts[halves[one.question.id]][0]
        for one in outputs
        for ratio in (style_ratio(one, tuned, base),)
    ]
    return sum(flags) / len(flags)
