"""A base that knows nothing."""

from __future__ import annotations

import math

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.run_log import RunLog

_SHARE = 0.95


def find_random_base(log: RunLog) -> Verdict | None:
    """Find a base whose held-out loss is at least 0.95 of that of guessing among all tokens."""
    base = next((v for v in log.validations if v.step == 0), None)
    vocabulary = log.facts.vocabulary_size
    if base is None or not vocabulary or vocabulary < 2:
        return None
    guess = math.log(vocabulary)
    if not base.loss >= _SHARE * guess or math.isinf(base.loss):
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
            "loss_of_guessing": guess,
            "vocabulary_size": vocabulary,
            "target_tokens": base.target_tokens,
        },
        next_action="name a model with trained weights, unless it was to begin from nothing",
    )
