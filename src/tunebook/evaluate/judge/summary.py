"""What many judgements of one set of weights come to, beside their mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tunebook.evaluate.judge.asking import Judged, total
from tunebook.evaluate.judge.settings import Judge
from tunebook.records import ItemScore
from tunebook.statistics.estimate import mean_estimate

SCALE = (0.0, 100.0)


def judged_details(lines: Sequence[Mapping[str, Any]], judge: Judge) -> dict[str, Any]:
    """Count faults, what is missing and why, empty answers, questions, tokens and their cost.

    Lines are those of a log, and so are the counts: what its scores took, in however many calls
    (`call_details` counts one). What came from the book's cache was paid for before and counts as
    neither tokens nor cost. Unknown counts and prices are None.
    """
    faults = Counter(fault for line in lines for fault in line["faults"])
    asked = [line for line in lines if not line["cached"]]
    tokens = {key: total(line[key] for line in asked) for key in _TOKENS}
    return {
        "missing_by_fault": dict(Counter(line["fault"] for line in lines if line["fault"])),
        "faults": dict(faults),
        "empty_answers": sum(bool(line["empty"]) for line in lines),
        "cached": len(lines) - len(asked),
        "asked": sum(line["asked"] for line in asked),
        "requests": sum(line["requests"] for line in asked),
        **tokens,
        "cost": judge.cost(tokens["prompt_tokens"], tokens["completion_tokens"]),
        "days": sorted({line["time"][:10] for line in lines}),
    }


def call_details(
    lines: Sequence[Mapping[str, Any]], asked: Sequence[Judged], judge: Judge
) -> dict[str, Any]:
    """Count what one call asked, and of how many lines it had no need to.

    Lines are those of a log, whoever paid for them; `asked` is what came of this call's tasks.
    Answers without text are asked by no call and known from none.
    """
    tokens = {key: total(getattr(one, key) for one in asked) for key in _TOKENS}
    n_requests = sum(one.requests for one in asked)
    unasked = [one for one in lines if one["empty"] or not (one["cached"] or one["asked"])]
    return {
        "known": len(lines) - len(unasked) - sum(one.asked > 0 for one in asked),
        "asked": sum(one.asked for one in asked),
        "requests": n_requests,
        **tokens,
        # Nothing costs nothing, whatever the prices are.
        "cost": judge.cost(*tokens.values()) if n_requests else 0.0,
    }


def tag_scores(rows: Sequence[ItemScore]) -> dict[str, dict[str, Any]]:
    """Estimate the mean of each skill tag; tags of which nothing was scored are left out."""
    found = {}
    for tag in dict.fromkeys(tag for row in rows for tag in row.tags):
        own = [row for row in rows if tag in row.tags]
        if any(row.value is not None for row in own):
            estimate = mean_estimate(own, "bca", SCALE)
            found[tag] = {"score": estimate.score, "interval": estimate.interval, "n": estimate.n}
    return found


_TOKENS = ("prompt_tokens", "completion_tokens")
