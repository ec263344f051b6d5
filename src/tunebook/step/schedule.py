"""The learning rate as a pure function of the step, so that resuming needs no scheduler state."""

from __future__ import annotations

import math

from tunebook.recipe.tree import Train


def warmup_length(train: Train, total_steps: int) -> int:
    """Give the number of warm-up steps that a recipe asks for."""
    if train.warmup_fraction is not None:
        return math.ceil(train.warmup_fraction * total_steps)
    return min(train.warmup_steps or 0, total_steps)


def learning_rate_at(train: Train, step: int, total_steps: int) -> float:
    """Give the learning rate of a step counted from 1.

    Warm-up rises linearly and reaches `learning_rate` at its last step; linear and cosine then
    fall to `min_lr`, which the last step has exactly.
    """
    warmup = warmup_length(train, total_steps)
    if step <= warmup:
        return train.learning_rate * step / warmup
    if train.schedule == "constant":
        return train.learning_rate
    # The first step after the warm-up still has the peak when there was none.
    first = max(warmup, 1)
    progress = min((step - first) / max(total_steps - first, 1), 1.0)
    share = 1 - progress if train.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return train.min_lr + (train.learning_rate - train.min_lr) * share
