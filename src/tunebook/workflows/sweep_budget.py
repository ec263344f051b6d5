"""What a sweep may still spend: hours of training and trained tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tunebook.book.plans import read_plan
from tunebook.book.summary import summarize
from tunebook.book.sweeps import SweepTrial
from tunebook.recipe.sweep import Budget
from tunebook.records import RunSummary

WAIT = "it is not known yet how long a trial takes"


def spent(
    budget: Budget,
    trials: Sequence[SweepTrial],
    running: Sequence[str],
    book: Path,
    *,
    n_next: int,
    seconds: float | None,
    tokens: float | None,
) -> str:
    """Say which budget would not hold `n_next` more trials; empty where all do.

    `seconds` and `tokens` are what one trial was planned to take, None where that is not known: the
    trials that have ended tell it then, and WAIT is said until one has.
    """
    done = [(t, summarize(t.run(book))) for t in trials if t.name not in running]
    n = len(running) + n_next
    if budget.hours is not None:
        took = [one.seconds for _, one in done if one.seconds]
        ended = [one.seconds for _, one in done if one.seconds and one.state == "finished"]
        each = math.fsum(ended) / len(ended) if ended else seconds
        if each is None and running:
            return WAIT
        if math.fsum(took) + (each or 0.0) * n > budget.hours * 3600:
            return f"{budget.hours:g} hours would be passed"
    if budget.tokens is not None and tokens is not None:
        trained = math.fsum(_tokens(t, one, tokens, book) for t, one in done)
        waiting = math.fsum(_planned(name, tokens, book, trials) for name in running)
        if trained + waiting + tokens * n_next > budget.tokens:
            return f"{budget.tokens:,} tokens would be passed"
    return ""


def _tokens(trial: SweepTrial, summary: RunSummary, tokens: float, book: Path) -> float:
    planned = read_plan(trial.run(book)).get("tokens") or tokens
    return float(planned) * (summary.step or 0) / max(summary.steps or 1, 1)


def _planned(name: str, tokens: float, book: Path, trials: Sequence[SweepTrial]) -> float:
    trial = next(one for one in trials if one.name == name)
    return float(read_plan(trial.run(book)).get("tokens") or tokens)
