"""weights-not-checked: without a pass through the weights two checks have nothing to look at."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.subject import Subject
from tunebook.records import Finding


def check(subject: Subject) -> Iterator[Finding]:
    """Say that nothing was computed with the model's own weights."""
    if subject.probe is not None:
        return
    yield Finding(
        "weights-not-checked",
        "warn",
        f"nothing was computed with the weights of {subject.recipe.model}, so random-base and "
        "weights-frozen-by-precision could not be checked",
        {"model": subject.recipe.model},
        "plan where the device and the weights are, without --no-probe; training checks it",
    )
