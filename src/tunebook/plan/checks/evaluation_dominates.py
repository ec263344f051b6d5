"""evaluation-dominates: a run that scores after every step spends its time on scoring."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tunebook.plan.clock import times_due
from tunebook.plan.subject import Subject
from tunebook.records import Finding
from tunebook.units import format_seconds

_LIMIT = 0.2
_LEAST_SECONDS = 60.0


def check(subject: Subject) -> Iterator[Finding]:
    """Take evaluation's share of the planned time; less than a minute in all is never too much."""
    training, evaluation = (subject.seconds.get(name) for name in ("training", "evaluation"))
    if training is None or evaluation is None or evaluation < _LEAST_SECONDS:
        return
    total = training + evaluation
    if evaluation <= _LIMIT * total:
        return
    every = subject.recipe.evaluate.every
    canary = subject.seconds.get("canary", 0.0)
    what = f"evaluation (every {_words(every)})"
    if canary > evaluation / 2:
        what = f"evaluation, above all of the canary ({format_seconds(canary)}),"
    yield Finding(
        "evaluation-dominates",
        "warn",
        f"{what} takes {evaluation / total:.0%} of the planned time, "
        f"{format_seconds(evaluation)} of {format_seconds(total)}",
        {
            "share": evaluation / total,
            "evaluation_seconds": evaluation,
            "canary_seconds": canary,
            "training_seconds": training,
            "every": every,
        },
        _way_out(subject, training, evaluation - canary, canary),
    )


def _way_out(subject: Subject, training: float, whole: float, canary: float) -> str:
    """Name the settings that bring evaluation below the limit; `whole` is without the canary."""
    allowed = _LIMIT / (1 - _LIMIT) * training
    without = canary > 0 and canary > max(allowed - whole, allowed / 2)
    steps = ["set evaluate.canary: 0"] if without else []
    room = allowed - (0 if without else canary)
    if whole > room and subject.horizon is not None:
        # One of them comes before step 1, whatever is set.
        seconds_each = whole / (1 + times_due(subject.horizon, subject.recipe.evaluate.every))
        n = math.floor(room / seconds_each) - 1
        if n > 0:
            steps.append(f"evaluate less often (evaluate.every: {math.ceil(100 / n)}%)")
        else:
            steps.append("evaluate on fewer held-out examples (validation.sample)")
    return ", and ".join(steps)


def _words(every: int | str) -> str:
    if isinstance(every, int):
        return "step" if every == 1 else f"{every} steps"
    return every if every == "epoch" else f"{every} of all steps"
