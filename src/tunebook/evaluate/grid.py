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
from tunebook.statistics.compare import DEFAULT_MARGIN, adjusted, compare
from tunebook.statistics.estimate import mean_estimate

SHORT_WORDS = 8
"""Answers of so few words count as short."""

_MARGIN = 0.02
_BUDGET_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer in one cell; `base_nats` is its -log p under the base, given its prompt.

    `judged` is a judge's score, None where none was asked or it is missing.
    """

    question: Question
    repeat: int
    text: str
    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    ended: bool
    base_nats: float
    judged: float | None = None

    @property
    def own_turns(self) -> str:
        """What the speaker said before in the same talk."""
        said = (m.content for m in self.question.messages if m.role == "assistant")
        return " ".join(said)


JUDGE = "judge"
"""The judge's score of each answer, where a judge was asked: 0 to 100, the higher the better."""

BY_ANSWER: Mapping[str, Callable[[Answered], float]] = {
    "length": lambda a: float(len(a.ids)),
    "short": lambda a: float(len(words(a.text)) <= SHORT_WORDS),
    "hit-max": lambda a: float(not a.ended),
    "rep-2": lambda a: repeated(a.ids, 2),
    "rep-3": lambda a: repeated(a.ids, 3),
    "rep-4": lambda a: repeated(a.ids, 4),
    "looping": lambda a: float(loops(a.ids)),
    "copied": lambda a: copied(a.prompt, a.ids),
    "self-repeat": lambda a: copied(words(a.own_turns), words(a.text), 4),
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
    margin, scale = (DEFAULT_MARGIN, (0.0, 100.0)) if by == JUDGE else (_MARGIN, None)
    compared = adjusted(
        [compare(rows[c], rows[reference], margin=margin, scale=scale) for c in others]
    )
    judged = any(a.judged is not None for found in answers.values() for a in found)
    names = [*BY_ANSWER, JUDGE] if judged else list(BY_ANSWER)
    differences = dict(zip(others, compared, strict=True))
    return [
        Cell(
            sampling=cell,
            numbers={name: mean_estimate(_rows(found, name)) for name in names},
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
    """Choose the best cell in `by` among those *different* from the reference and better.

    Better is lower, but for the judge.
    """
    sign = -1 if by == JUDGE else 1
    better = [
        cell
        for cell in cells
        if (d := cell.difference) and d.verdict == "different" and sign * d.difference < 0
    ]
    return min(better, key=lambda cell: sign * (cell.numbers[by].score or 0.0), default=None)


def _rows(found: Sequence[Answered], name: str) -> list[ItemScore]:
    return [
        ItemScore(
            a.question.id,
            a.question.hash,
            name,
            a.judged if name == JUDGE else BY_ANSWER[name](a),
            cluster=a.question.document,
            repeat=a.repeat,
        )
        for a in found
    ]


def _perplexity(found: Sequence[Answered]) -> float | None:
    n_tokens = sum(len(a.ids) for a in found)
    return math.exp(math.fsum(a.base_nats for a in found) / n_tokens) if n_tokens else None
