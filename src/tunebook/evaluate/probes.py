"""What training did to a model, in numbers: its own domain, what is near it, and what is not.

Every number is of rows per prompt, compared tuned - base with prompts paired; docs/probes.md says
what each means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tunebook.evaluate.questions import Question
from tunebook.evaluate.repetition import loops, repeated
from tunebook.evaluate.style import style_threshold
from tunebook.evaluate.wording import domain_terms, likeness, term_share
from tunebook.records import Comparison, Estimate, ItemScore
from tunebook.statistics.compare import adjusted, compare
from tunebook.statistics.estimate import (
    clustered_interval,
    mean_estimate,
    proportion_estimate,
    ratio_estimate,
)

GROUPS = ("in", "near", "out", "ladder")
FEWEST_PROMPTS = 40
"""With fewer prompts in a group its numbers are shown and no verdict is said."""

_NARROWED_P = 0.01
_TERMS = "domain terms"
MARGINS = {"nats/byte": 0.01, "share": 0.05, "tokens": 5.0, "ROUGE-L": 0.05, "nats/token": 0.05}
"""Differences that are as good as none, by unit."""


@dataclass(frozen=True, slots=True)
class Output:
    """One answer: `nats` is its -log p given its prompt under each of the weights, by name."""

    question: Question
    repeat: int
    text: str
    ids: tuple[int, ...]
    n_bytes: int
    nats: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Given:
    """A text that nobody sampled, scored: `ids` are its scored tokens."""

    question: Question
    ids: tuple[int, ...]
    n_bytes: int
    nats: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Probed:
    """All that was asked; `outputs` by who wrote them, `divergences` and `unigram` by question.

    A divergence is KL(base || tuned) over the tokens of base's first answer, with their number.
    """

    base: str
    outputs: Mapping[str, Sequence[Output]]
    references: Sequence[Given]
    general: Sequence[Given]
    unigram: Mapping[str, float]
    divergences: Mapping[str, Sequence[tuple[Question, float, int]]]
    training: Sequence[str]
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of the tuned weights beside that of `against` (base or data), and their difference.

    Without a difference the number is one of both, such as a divergence.
    """

    name: str
    group: str
    unit: str
    tuned: Estimate
    against: Literal["base", "data"] = "base"
    other: Estimate | None = None
    difference: Comparison | None = None


def measure(probed: Probed, tuned: str) -> dict[str, Any]:
    """Give all numbers of one set of weights against the base.

    `measures` has a Measure for each; their differences are adjusted for their number (Holm).
    `spill_over`, `narrowed` and `retention` hold what these verdicts rest on.
    """
    halves = halves_of(probed)
    terms = _terms(probed, halves)
    found = [
        one
        for group in GROUPS
        if any(o.question.group == group for o in probed.outputs[tuned])
        for one in _of_group(probed, tuned, group, halves, terms)
    ]
    style, spilled = _spill_over(probed, tuned, halves)
    found += spilled
    if rows := _divergence_rows(probed, tuned):
        found.append(Measure("KL(base || tuned)", "out", "nats/token", ratio_estimate(rows)))
    found += _retained(probed, tuned)
    found = _decided(found)
    return {
        "measures": found,
        "prompts": {g: _n_prompts(probed.outputs[tuned], g) for g in GROUPS},
        "domain_terms": sorted(terms[0] & terms[1])[:20],
        "spill_over": style,
        "narrowed": _narrowed(found),
        "retention": _retention(probed, tuned),
    }


def _n_prompts(outputs: Iterable[Output], group: str) -> int:
    return len({o.question.id for o in outputs if o.question.group == group})


def halves_of(probed: Probed) -> dict[str, int]:
    """Split the prompts of each group in two, by their hashes; gives the half by question."""
    questions = {o.question.id: o.question for o in probed.outputs[probed.base]}
    found = dict[str, int]()
    for group in GROUPS:
        own = [q for q in questions.values() if q.group == group]
        found |= {q.id: i % 2 for i, q in enumerate(sorted(own, key=lambda q: q.hash))}
    return found


def _terms(probed: Probed, halves: Mapping[str, int]) -> tuple[frozenset[str], frozenset[str]]:
    """Choose the domain's words for each half of the prompts.

    Held against the references of `out` and base's answers to the *other* half: words chosen for
    being rare in some texts would make these look poorer in them than they are.
    """
    general = [one.question.reference or "" for one in probed.general]
    written = [o for o in probed.outputs[probed.base] if o.question.group == "out"]
    first, second = (
        domain_terms(
            probed.training,
            [*general, *(o.text for o in written if halves[o.question.id] != half)],
        )
        for half in (0, 1)
    )
    return first, second


def _row(
    question: Question, run: str, value: float | None, units: float = 1, repeat: int = 0
) -> ItemScore:
    return ItemScore(
        question.id, question.hash, run, value, units, question.document, repeat, (question.group,)
    )


def _of_group(
    probed: Probed,
    tuned: str,
    group: str,
    halves: Mapping[str, int],
    terms: tuple[frozenset[str], frozenset[str]],
) -> list[Measure]:
    found: list[Measure] = []
    given = [one for one in probed.references if one.question.group == group]
    if given:
        found.append(_likelihood(given, tuned, probed.base))
    own, base = (
        [o for o in probed.outputs[who] if o.question.group == group]
        for who in (tuned, probed.base)
    )
    ratios = [
        _row(o.question, tuned, style_ratio(o, tuned, probed.base), repeat=o.repeat) for o in own
    ]
    if any(row.value is not None for row in ratios):
        name = "log-likelihood ratio, own answers"
        found.append(Measure(name, group, "nats/byte", mean_estimate(ratios)))
    of_answers: list[tuple[str, str, Callable[[Output], float]]] = [
        ("length", "tokens", lambda o: float(len(o.ids))),
        ("rep-2", "share", lambda o: repeated(o.ids, 2)),
        ("rep-3", "share", lambda o: repeated(o.ids, 3)),
        ("rep-4", "share", lambda o: repeated(o.ids, 4)),
        ("looping", "share", lambda o: float(loops(o.ids))),
        (_TERMS, "share", lambda o: term_share(o.text, terms[halves[o.question.id]])),
    ]
    for name, unit, value in of_answers:
        said, before = (
            [_row(o.question, who, value(o), repeat=o.repeat) for o in outputs]
            for who, outputs in ((tuned, own), (probed.base, base))
        )
        found.append(_paired(name, group, unit, said, before))
    if group == "in" and given:
        found += _against_data(own, given, tuned, probed.max_new_tokens)
    alike, before = _likeness_rows(own, tuned), _likeness_rows(base, probed.base)
    if alike:
        found.append(_paired("consistency", group, "ROUGE-L", alike, before))
    return found


def _likelihood(given: Sequence[Given], tuned: str, base: str) -> Measure:
    rows = [
        [_row(one.question, who, -one.nats[who], one.n_bytes) for one in given if one.n_bytes]
        for who in (tuned, base)
    ]
    name = "log-likelihood ratio, references"
    return _paired(name, given[0].question.group, "nats/byte", rows[0], rows[1], ratio_estimate)


def _paired(
    name: str,
    group: str,
    unit: str,
    tuned: Sequence[ItemScore],
    other: Sequence[ItemScore],
    estimate: Callable[[Iterable[ItemScore]], Estimate] = mean_estimate,
    against: Literal["base", "data"] = "base",
) -> Measure:
    if unit == "share" and all(row.value in (0, 1) for row in (*tuned, *other)):
        estimate = proportion_estimate
    difference = compare(tuned, other, margin=MARGINS[unit])
    return Measure(name, group, unit, estimate(tuned), against, estimate(other), difference)


def style_ratio(output: Output, tuned: str, base: str) -> float | None:
    """Give (log p_tuned - log p_base) / bytes of an answer, in nats; None for an empty one."""
    if not output.n_bytes:
        return None
    return (output.nats[base] - output.nats[tuned]) / output.n_bytes


def _against_data(
    own: Sequence[Output], given: Sequence[Given], tuned: str, limit: int
) -> list[Measure]:
    """Hold the answers against those of the data to the same prompts, cut at the same length."""
    answered = {one.question.id for one in given}
    both = [o for o in own if o.question.id in answered]
    numbers: list[tuple[str, str, Callable[[Sequence[int]], float]]] = [
        ("length", "tokens", lambda ids: float(len(ids))),
        ("rep-4", "share", lambda ids: repeated(ids, 4)),
    ]
    found = []
    for name, unit, value in numbers:
        said = [_row(o.question, tuned, value(o.ids), repeat=o.repeat) for o in both]
        data = [_row(one.question, "data", value(one.ids[:limit])) for one in given]
        found.append(_paired(name, "in", unit, said, data, against="data"))
    return found


def _likeness_rows(outputs: Sequence[Output], run: str) -> list[ItemScore]:
    texts: dict[str, list[Output]] = {}
    for output in outputs:
        texts.setdefault(output.question.id, []).append(output)
    return [
        _row(each[0].question, run, alike)
        for each in texts.values()
        if (alike := likeness([o.text for o in each])) is not None
    ]


# --- spill-over -----------------------------------------------------------------------------------


def style_cuts(
    probed: Probed, tuned: str, halves: Mapping[str, int]
) -> list[tuple[float, float]] | None:
    """Give the style ratio above which an answer is in the domain's style, for each half.

    With it stands Youden's J, how well the two styles are told apart. The cut is made of the
    references of `in` and `out`, which neither model wrote: who writes a text finds it likely, so
    answers of the two would be told apart by their author. Each half of the prompts is judged by
    the cut of the other half. None without such references.
    """

    def ratios(group: str, half: int) -> list[float]:
        return [
            (one.nats[probed.base] - one.nats[tuned]) / one.n_bytes
            for one in probed.references
            if one.question.group == group and halves[one.question.id] == half and one.n_bytes
        ]

    sides = [(ratios("in", 1 - half), ratios("out", 1 - half)) for half in (0, 1)]
    if not all(styled and plain for styled, plain in sides):
        return None
    return [style_threshold(styled, plain) for styled, plain in sides]


def _spill_over(
    probed: Probed, tuned: str, halves: Mapping[str, int]
) -> tuple[dict[str, Any] | None, list[Measure]]:
    """Count answers on `out` that are in the style of the tuned domain, tuned - base."""
    cuts = style_cuts(probed, tuned, halves)
    if cuts is None:
        return None, []
    rows = [
        [
            _row(
                o.question,
                who,
                float(ratio is not None and ratio > cuts[halves[o.question.id]][0]),
                repeat=o.repeat,
            )
            for o in probed.outputs[who]
            if o.question.group == "out"
            for ratio in (style_ratio(o, tuned, probed.base),)
        ]
        for who in (tuned, probed.base)
    ]
    details = {"thresholds": [cut for cut, _ in cuts], "told_apart": [j for _, j in cuts]}
    return details, [_paired("spill-over", "out", "share", rows[0], rows[1])]


# --- divergence, retention, narrowing -------------------------------------------------------------


def _divergence_rows(probed: Probed, tuned: str) -> list[ItemScore]:
    return [_row(q, tuned, kl, n) for q, kl, n in probed.divergences.get(tuned, ()) if n]


def _retained(probed: Probed, tuned: str) -> list[Measure]:
    rows = [
        [_row(one.question, who, one.nats[who], len(one.ids)) for one in probed.general]
        for who in (tuned, probed.base)
    ]
    name = "loss on the general text"
    return [_paired(name, "general", "nats/token", rows[0], rows[1], ratio_estimate)]


def _retention(probed: Probed, tuned: str) -> dict[str, Any]:
    """Give kept = 1 - (nll_tuned - nll_base) / (nll_unigram - nll_base), with its interval.

    The unigram is the mean of what the base predicts over the whole text. None where the base
    itself predicts no better than that.
    """
    pairs = [
        (
            one.nats[tuned] - one.nats[probed.base],
            probed.unigram[one.question.id] - one.nats[probed.base],
        )
        for one in probed.general
    ]
    lost, known = (math.fsum(column) for column in zip(*pairs, strict=True))
    n_tokens = sum(len(one.ids) for one in probed.general)
    unigram = math.fsum(probed.unigram.values()) / n_tokens
    if known <= 0:
        return {"kept": None, "interval": None, "n": len(pairs), "unigram_loss": unigram}
    ends = clustered_interval(pairs)
    return {
        "kept": 1 - lost / known,
        "interval": None if ends is None else (1 - ends[1], 1 - ends[0]),
        "n": len(pairs),
        "unigram_loss": unigram,
    }


def _narrowed(measures: Sequence[Measure]) -> dict[str, Any] | None:
    """Say whether the domain's words have come into `out`: None without both groups."""
    shares = {one.group: one for one in measures if one.name == _TERMS}
    if not {"in", "out"} <= shares.keys():
        return None
    inside, outside = shares["in"], shares["out"]
    assert outside.difference is not None
    p, difference = outside.difference.p, outside.difference.difference
    one_sided = None if p is None else p / 2 if difference > 0 else 1 - p / 2
    few = min(inside.tuned.n, outside.tuned.n) < FEWEST_PROMPTS
    held = (
        one_sided is not None
        and one_sided < _NARROWED_P
        and (outside.tuned.score or 0) >= (inside.tuned.score or 0) / 2
    )
    return {"narrowed": None if few else held, "p_one_sided": one_sided}


def _decided(measures: Sequence[Measure]) -> list[Measure]:
    """Adjust the verdicts for their number, and withhold those on too few prompts."""
    found = iter(decided([c for one in measures if (c := one.difference) is not None]))
    return [
        one if one.difference is None else replace(one, difference=next(found)) for one in measures
    ]


def decided(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Adjust the verdicts for their number (Holm), and withhold those on too few prompts."""
    withheld = [
        replace(
            c,
            verdict="cannot tell",
            n_needed=None,
            reason=f"{c.n} prompts, a verdict takes {FEWEST_PROMPTS}",
        )
        if c.n < FEWEST_PROMPTS and not c.reason
        else c
        for c in comparisons
    ]
    return adjusted(withheld)
