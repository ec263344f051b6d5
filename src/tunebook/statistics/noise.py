"""How much of a score is the question, how much the judge, and how much is luck."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunebook.errors import UsageError
from tunebook.records import ItemScore
from tunebook.statistics.estimate import RESAMPLES, at_most, batch_of
from tunebook.statistics.items import cluster_sums, collect_items


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviations of a score: between questions, and of the judge on one answer.

    `repeats` is the mean number of judgements per item; `error` the standard error of the mean of
    item means, `error_without_judge` what would be left of it with endless repeats.
    """

    question_sd: float
    judge_sd: float
    repeats: float
    n: int
    error: float
    error_without_judge: float


def variance_components(rows: Iterable[ItemScore]) -> Noise | None:
    """Tell judge noise from question noise by repeated judgements; None without any repeats.

    One-way random-effects analysis of variance, unbalanced where judgements are missing (Searle,
    Casella and McCulloch, Variance Components, 1992, section 3.6): the mean square within items is
    the judge's variance; (between - within) / n0 the questions', 0 where it comes out negative.
    """
    groups = [item.values for item in collect_items(rows).values() if item.values]
    sizes = np.array([len(values) for values in groups])
    n, total = len(groups), int(sizes.sum())
    if n < 2 or total == n:
        return None
    means = np.array([math.fsum(values) / len(values) for values in groups])
    grand = float((sizes * means).sum() / total)
    between = float((sizes * (means - grand) ** 2).sum()) / (n - 1)
    within = math.fsum(
        (value - mean) ** 2 for values, mean in zip(groups, means, strict=True) for value in values
    ) / (total - n)
    n0 = (total - float((sizes**2).sum()) / total) / (n - 1)
    question = max(0.0, (between - within) / n0)
    judge_part = within * float((1 / sizes).sum()) / n**2
    return Noise(
        question_sd=math.sqrt(question),
        judge_sd=math.sqrt(within),
        repeats=total / n,
        n=n,
        error=math.sqrt(question / n + judge_part),
        error_without_judge=math.sqrt(question / n),
    )


def chance_best(
    rows_by_run: Mapping[str, Sequence[ItemScore]], *, seed: int = 0, higher_is_better: bool = True
) -> dict[str, float]:
    """Give the chance that each run is the best of them, by drawing items (clusters) anew.

    The share of 10,000 bootstrap samples in which its mean is the best, ties split. UsageError when
    the runs were scored on different items or no item has a score in all.
    """
    runs = {name: collect_items(rows) for name, rows in rows_by_run.items()}
    keys = [set(items) for items in runs.values()]
    if any(found != keys[0] for found in keys):
        raise UsageError("the runs were scored on different examples, so none is the best of them")
    complete = [
        key for key in next(iter(runs.values()), {}) if all(i[key].values for i in runs.values())
    ]
    if not complete:
        raise UsageError("no item has a score in all runs, so none is the best of them")
    chosen = [[items[key] for key in complete] for items in runs.values()]
    columns = [[item.mean or 0.0 for item in items] for items in chosen]
    *sums, counts = cluster_sums(chosen[0], *columns, [item.n_units for item in chosen[0]])
    counts = at_most(counts)
    table = np.array([at_most(column) for column in sums]) * (1 if higher_is_better else -1)
    draw = np.random.default_rng(seed)
    wins, left = np.zeros(len(runs)), RESAMPLES
    while left:
        size = min(left, batch_of(len(counts)))
        drawn = draw.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size)
        means = (drawn @ table.T) / (drawn @ counts)[:, None]
        best = np.isclose(means, means.max(axis=1, keepdims=True), rtol=1e-12, atol=1e-12)
        wins += (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
        left -= size
    return dict(zip(runs, (wins / RESAMPLES).tolist(), strict=True))
