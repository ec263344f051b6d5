"""Coarse verdicts on runs of which only the last loss is known, from the runs beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from tunebook.records import Verdict
from tunebook.units import format_number

FAR = 2.0
"""A loss of so many times the median of its siblings diverged."""
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Final:
    """How a run ended: its loss in nats per token, and the model it was made from."""

    loss: float | None
    model: object


def judge_finals(finals: Mapping[str, Final]) -> dict[str, Verdict]:
    """Give a verdict on each run that has a loss, against the other runs of the same model.

    `divergence` is the coarse form: no finite loss, or over twice the median of at least three
    siblings. Otherwise nothing was found, and the verdict says where the loss stands among them.
    """
    found: dict[str, Verdict] = {}
    for name, own in finals.items():
        if own.loss is None:
            continue
        siblings = {
            other: one.loss
            for other, one in finals.items()
            if other != name and one.model == own.model and one.loss is not None
        }
        found[name] = _diverged(own, siblings) or _nothing_found(own, siblings)
    return found


def _diverged(own: Final, siblings: Mapping[str, float]) -> Verdict | None:
    assert own.loss is not None
    known = [loss for loss in siblings.values() if math.isfinite(loss)]
    middle = median(known) if len(known) >= _FEWEST else None
    if math.isfinite(own.loss) and (middle is None or own.loss <= FAR * middle):
        return None
    against = ""
    if middle is not None:
        against = (
            f", {own.loss / middle:.1f} times the median {format_number(middle)} of the "
            f"{len(known)} other runs of {own.model}"
        )
    return Verdict(
        kind="divergence",
        step=None,
        last_step=None,
        cause=f"its loss ended at {format_number(own.loss)}{against}; this is the coarse form: "
        "without a curve, since when is not known",
        confidence="likely",
        evidence={
            "loss": own.loss,
            "median_of_siblings": middle,
            "siblings": len(known),
            "limit": None if middle is None else FAR * middle,
        },
        next_action="lower train.learning_rate, or lengthen the warm-up",
    )


def _nothing_found(own: Final, siblings: Mapping[str, float]) -> Verdict:
    assert own.loss is not None
    worse = [name for name, loss in siblings.items() if not loss <= own.loss]
    of = f"{len(siblings) + 1} runs of {own.model}"
    place = f"one of {of}" if siblings else "that of a run without others of its model beside it"
    if siblings and not worse:
        place = f"the worst of {of}"
    elif len(worse) == len(siblings) > 0:
        place = f"the best of {of}"
    elif len(worse) == 1:
        place = f"the worst of {of} but for {worse[0]}"
    return Verdict(
        kind="no_fault_found",
        step=None,
        last_step=None,
        cause=f"its loss of {format_number(own.loss)} is {place}; only the last loss is "
        "known, so that nothing but divergence was looked for",
        confidence="likely",
        evidence={"loss": own.loss, "worse": worse, "runs": len(siblings) + 1},
        next_action="compare it with the runs before it",
    )
