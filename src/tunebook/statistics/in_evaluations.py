"""What the evaluations of a run say of it: forgetting, narrowing, short answers, worse than base.

Pure functions of `records.Evaluation`; the numbers are those of `tunebook probe`, `evaluate` and
`judge`, with their own tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tunebook.errors import MALFORMED
from tunebook.records import Evaluation, Verdict
from tunebook.units import format_number, format_percent

_KEPT = 0.9
_SHORT = 0.5
_GRADES = ((0.75, "some"), (0.5, "much"))
_LOWER_IS_BETTER = {"loss": True, "judge": False}


def find_in_evaluations(evaluations: Sequence[Evaluation]) -> list[Verdict]:
    """Give the verdicts of the newest evaluation of each kind and set of weights.

    `evaluations` are in order of time, the newest last, as `read_results` gives them.
    """
    newest = {(one.kind, one.subject): one for one in evaluations}
    found: list[Verdict] = []
    for one in newest.values():
        # Details written by other hands or releases say nothing, and must not hide the run.
        with suppress(*MALFORMED):
            found += _verdicts(one)
    return found


def _verdicts(one: Evaluation) -> Iterator[Verdict]:
    if one.kind == "probe":
        for find in (find_forgetting, find_narrowed, find_short_responses):
            if verdict := find(one):
                yield verdict
    elif verdict := find_worse_score(one):
        yield verdict


def find_forgetting(probe: Evaluation) -> Verdict | None:
    """Find that general text got less likely: different, and surely below 90 % kept.

    Small models always forget something, so it is graded (some, much, most) and told beside what
    the domain gained.
    """
    retention = _mapping(probe.details.get("retention"))
    kept, interval = retention.get("kept"), retention.get("interval")
    loss = _measure(probe, "loss on the general text", "general")
    difference = _mapping(loss.get("difference"))
    if kept is None or not interval or interval[1] >= _KEPT:
        return None
    if difference.get("verdict") != "different" or difference["difference"] <= 0:
        return None
    gain = _measure(probe, "log-likelihood ratio, references", "in")
    return _of(
        probe,
        "forgetting",
        f"of the base's general knowledge of language {format_percent(kept)} is kept (at most "
        f"{format_percent(interval[1])})",
        {
            "grade": next((word for least, word in _GRADES if kept >= least), "most"),
            "kept": kept,
            "interval": interval,
            "general_loss_rose_by": difference["difference"],
            "domain_gain_nats_per_byte": _difference(gain),
            "texts": retention.get("n"),
        },
        "mix general rows into the data, lower train.learning_rate, or train an adapter",
    )


def find_narrowed(probe: Evaluation) -> Verdict | None:
    """Find that answers to everything use the words of the domain; the probe's own test."""
    found = _mapping(probe.details.get("narrowed"))
    if found.get("narrowed") is not True:
        return None
    inside, outside = (_measure(probe, "domain terms", group) for group in ("in", "out"))
    spill = _measure(probe, "spill-over", "out")
    share = _mapping(outside.get("tuned")).get("score")
    base = _mapping(outside.get("other")).get("score")
    return _of(
        probe,
        "narrowed",
        f"asked about other things, {format_percent(share or 0.0)} of its words are those of its "
        f"domain; the base's were {format_percent(base or 0.0)}",
        {
            "terms_out": share,
            "terms_out_of_base": base,
            "terms_in": _mapping(inside.get("tuned")).get("score"),
            "p_one_sided": found.get("p_one_sided"),
            "spill_over": _difference(spill),
            "words": probe.details.get("domain_terms"),
        },
        "mix rows about other things into the data, or stop earlier",
    )


def find_short_responses(probe: Evaluation) -> Verdict | None:
    """Find that answers are different in length from the data's own, and at most half as long.

    Where the data has no answers to the prompts, those of the base on other things stand for them.
    """
    lengths = [
        one
        for one in probe.details.get("measures") or ()  # type: ignore[attr-defined]
        if one["name"] == "length" and one.get("other")
    ]
    own = [one for one in lengths if one["against"] == "data"]
    for one in own or [one for one in lengths if one["group"] in ("near", "out")]:
        difference = _mapping(one["difference"])
        said, other = one["tuned"]["score"], one["other"]["score"]
        if difference.get("verdict") != "different" or not other or said > _SHORT * other:
            continue
        whose = "the data's own answers" if one["against"] == "data" else "the base's"
        return _of(
            probe,
            "short_responses",
            f"answers have {format_number(said)} tokens, {whose} {format_number(other)}",
            {
                "tokens": said,
                "tokens_of_other": other,
                "against": one["against"],
                "group": one["group"],
                "difference": difference.get("difference"),
                "interval": difference.get("interval"),
                "prompts": difference.get("n"),
            },
            "look for rows whose answers are cut, and at where their end token stands",
        )
    return None


def find_worse_score(one: Evaluation) -> Verdict | None:
    """Find that loss or judged answers are different from the base's, and worse by a margin."""
    found = one.comparison
    if found is None or one.against != "base" or found.verdict != "different":
        return None
    if one.kind not in _LOWER_IS_BETTER:
        return None
    worse_by = found.difference if _LOWER_IS_BETTER[one.kind] else -found.difference
    if worse_by <= found.margin:
        return None
    return _of(
        one,
        "worse_than_base",
        f"{one.kind} of {one.subject} differs from the base's by "
        f"{format_number(found.difference)} {one.unit}, for the worse",
        {
            "score": one.score,
            "difference": found.difference,
            "interval": found.interval,
            "p": found.p if found.p_adjusted is None else found.p_adjusted,
            "items": found.n,
        },
        "use the base, or the best weights; lower train.learning_rate",
    )


def _of(
    one: Evaluation, kind: str, cause: str, evidence: Mapping[str, object], next_action: str
) -> Verdict:
    step = int(one.subject[5:]) if one.subject.startswith("step-") else None
    return Verdict(
        kind=kind,
        step=step,
        last_step=step,
        cause=cause,
        confidence="likely",
        evidence={"evaluation": one.log, "weights": one.subject, **evidence},
        next_action=next_action,
    )


def _measure(probe: Evaluation, name: str, group: str) -> Mapping[str, Any]:
    for one in probe.details.get("measures") or ():  # type: ignore[attr-defined]
        if (one["name"], one["group"], one["against"]) == (name, group, "base"):
            return _mapping(one)
    return {}


def _difference(measure: Mapping[str, Any]) -> float | None:
    found = _mapping(measure.get("difference")).get("difference")
    return None if found is None else float(found)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
