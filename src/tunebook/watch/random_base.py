"""A base that knows nothing."""

from __future__ import annotations

import math

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.run_log import RunLog

_SHARE = 0.95
_TRAINED_SHARE = 0.9


def find_random_base(log: RunLog) -> Verdict | None:
    """Find a base whose held-out loss is at least 0.95 of that of guessing among all tokens.

    The loss of step 1, of the same weights, must be at least 0.9 of it: where only held-out rows
    are as hard as that, it is they that are wrong.
    """
    base = next((v for v in log.validations if v.step == 0), None)
    vocabulary = log.facts.vocabulary_size
    if base is None or not vocabulary or vocabulary < 2:
        return None
    guess = math.log(vocabulary)
    if not base.loss >= _SHARE * guess or math.isinf(base.loss):
        return None
    first = log.steps[0] if log.steps and log.steps[0].step == 1 else None
    if first is not None and first.loss < _TRAINED_SHARE * guess:
        return None
    return Verdict(
        kind="random_base",
        step=0,
        last_step=0,
        cause=(
            f"the loss before step 1 was {format_number(base.loss)}, and guessing among "
            f"{vocabulary:,} tokens has {format_number(guess)}: it learned from nothing"
        ),
        confidence="certain",
        evidence={
            "base_loss": base.loss,
            "training_loss_of_step_1": None if first is None else first.loss,
            "loss_of_guessing": guess,
            "vocabulary_size": vocabulary,
            "target_tokens": base.target_tokens,
        },
        next_action="name a model with trained weights, unless it was to begin from nothing",
    )
