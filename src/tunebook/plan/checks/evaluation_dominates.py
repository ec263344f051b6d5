"""evaluation-dominates: a run that scores after every step spends its time on scoring."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.subject import Subject
from tunebook.records import Finding
from tunebook.units import format_seconds

_LIMIT = 0.2


def check(subject: Subject) -> Iterator[Finding]:
    """Take evaluation's share of the planned time."""
    training, evaluation = (subject.seconds.get(name) for name in ("training", "evaluation"))
    if training is None or evaluation is None:
        return
    total = training + evaluation
    if evaluation <= _LIMIT * total:
        return
    every = subject.recipe.evaluate.every
    yield Finding(
        "evaluation-dominates",
        "warn",
        f"evaluation (every {_words(every)}) takes {evaluation / total:.0%} of the planned time, "
        f"{format_seconds(evaluation)} of {format_seconds(total)}",
        {
            "share": evaluation / total,
            "evaluation_seconds": evaluation,
            "training_seconds": training,
            "every": every,
        },
        "evaluate less often (evaluate.every: 10%), or on fewer held-out examples "
        "(validation.sample), or set evaluate.canary: 0",
    )


def _words(every: int | str) -> str:
    if isinstance(every, int):
        return "step" if every == 1 else f"{every} steps"
    return every if every == "epoch" else f"{every} of all steps"
