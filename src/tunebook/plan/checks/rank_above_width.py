"""rank-above-width: an adapter of a larger rank than the weights beside it can have.

The update of an out x in weight has rank min(out, in) at most; more is memory for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.subject import Subject
from tunebook.records import Finding


def check(subject: Subject) -> Iterator[Finding]:
    """Hold the rank against the smaller side of the largest weight that is adapted."""
    rank, width = subject.recipe.lora.rank, subject.adapted_width
    if width is not None and rank > width:
        yield Finding(
            "rank-above-width",
            "warn",
            f"`lora.rank` is {rank:,}, and no update of a weight of this model has a rank above "
            f"{width:,}, the smaller side of the largest that is adapted",
            {"rank": rank, "width": width},
            f"say lora.rank={width} or less; what method full trains is reached at {width}",
        )
