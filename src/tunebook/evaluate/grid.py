"""What each way of sampling does to the answers, cell by cell of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tunebook.evaluate.questions import Question
from tunebook.evaluate.repetition import copied, distinct, loops, repeated
from tunebook.evaluate.wording import words
from tunebook.models.generate import Sampling
from tunebook.records import Comparison, Estimate, ItemScore
from tunebook.statistics.compare import adjusted, compare
from tunebook.statistics.estimate import mean_estimate

SHORT_WORDS = 8
"""Answers of so few words count as short."""

_MARGIN = 0.02
_BUDGET_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer in one cell; `base_nats` is its -log p under the base, given its prompt."""

    question: Question
    repeat: int
    text: str
    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    ended: bool
    base_nats: float


BY_ANSWER: Mapping[str, Callable[[Answered], float]] = {
    "length": lambda a: float(len(a.ids)),
    "short": lambda a: float(len(words(a.text)) <= SHORT_WORDS),
    "hit-max": lambda a: float(not a.ended),
    "rep-2": lambda a: repeated(a.ids, 2),
    "rep-3": lambda a: repeated(a.ids, 3),
    "rep-4": lambda a: repeated(a.ids, 4),
    "looping": lambda a: float(loops(a.ids)),
    "copied": lambda a: copied(a.prompt, a.ids),
}
"""A number of each answer: tokens for length, else 0 to 1."""

LOWER_IS_BETTER = tuple(name for name in BY_ANSWER if name != "length")


@dataclass(frozen=True, slots=True)
class Cell:
    """What one way of sampling came to.

    `distinct` has distinct-1 and -2 of the first 1,000 tokens of all answers (None: there are
    fewer), `perplexity` is of the answers under the base. `difference` is from the reference cell,
    None there.
    """

    sampling: Sampling
    numbers: Mapping[str, Estimate]
    distinct: tuple[float | None, float | None]
    perplexity: float | None
    difference: Comparison | None


def cells_of(
    temperatures: Sequence[float],
    top_ps: Sequence[float],
    penalties: Sequence[float],
    max_new_tokens: int,
) -> list[Sampling]:
    """Cross the settings; greedy (temperature 0) has no top-p."""
    found = [
        Sampling(max_new_tokens, t, p if t else 1.0, r)
        for t, p, r in product(temperatures, top_ps, penalties)
    ]
    return list(dict.fromkeys(found))


def reference_cell(cells: Sequence[Sampling]) -> Sampling:
    """Choose the cell that shapes what the model says the least: T 1, top-p 1, no penalty."""
    return min(
        cells,
        key=lambda c: (abs(c.temperature - 1), 1 - c.top_p, abs(c.repetition_penalty - 1)),
    )


def measure_grid(answers: Mapping[Sampling, Sequence[Answered]], by: str) -> list[Cell]:
    """Give every cell's numbers, and how `by` differs from the reference cell (Holm-adjusted)."""
    reference = reference_cell(list(answers))
    rows = {cell: _rows(found, by) for cell, found in answers.items()}
    others = [cell for cell in answers if cell != reference]
    compared = adjusted([compare(rows[c], rows[reference], margin=_MARGIN) for c in others])
    differences = dict(zip(others, compared, strict=True))
    return [
        Cell(
            sampling=cell,
            numbers={name: mean_estimate(_rows(found, name)) for name in BY_ANSWER},
            distinct=(
                distinct((a.ids for a in found), 1, _BUDGET_TOKENS),
                distinct((a.ids for a in found), 2, _BUDGET_TOKENS),
            ),
            perplexity=_perplexity(found),
            difference=differences.get(cell),
        )
        for cell, found in answers.items()
    ]


def recommended(cells: Sequence[Cell], by: str) -> Cell | None:
    """Choose the cell lowest in `by` among those *different* from the reference and below it."""
    better = [
        cell
        for cell in cells
        if (d := cell.difference) and d.verdict == "different" and d.difference < 0
    ]
    return min(better, key=lambda cell: cell.numbers[by].score or 0.0, default=None)


def _rows(found: Sequence[Answered], name: str) -> list[ItemScore]:
    return [
        ItemScore(
            a.question.id,
            a.question.hash,
            name,
            BY_ANSWER[name](a),
            cluster=a.question.document,
            repeat=a.repeat,
        )
        for a in found
    ]


def _perplexity(found: Sequence[Answered]) -> float | None:
    n_tokens = sum(len(a.ids) for a in found)
    return math.exp(math.fsum(a.base_nats for a in found) / n_tokens) if n_tokens else None
