"""The learning rate as a pure function of the step, so that resuming needs no scheduler state."""

from __future__ import annotations

import math

from tunebook.recipe.tree import Recipe, Train


def warmup_length(train: Train, total_steps: int) -> int:
    """Give the number of warm-up steps that a recipe asks for."""
    if train.warmup_fraction is not None:
        return math.ceil(train.warmup_fraction * total_steps)
    return min(train.warmup_steps or 0, total_steps)


def learning_rate_at(train: Train, step: int, total_steps: int) -> float:
    """Give the learning rate of a step counted from 1.

    Warm-up rises linearly and reaches `learning_rate` at its last step; linear and cosine then
    fall to `min_lr`, which the last step has exactly. lr_range has no warm-up and rises from
    `min_lr` at step 1, even in the logarithm (Smith 2017, section 3.3).
    """
    if train.schedule == "lr_range":
        progress = min((step - 1) / max(total_steps - 1, 1), 1.0)
        return train.min_lr * math.pow(train.learning_rate / train.min_lr, progress)
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


def merges_after(recipe: Recipe, step: int, total_steps: int) -> bool:
    """Tell whether method relora merges after a step; after the last one there is no adapter."""
    due = recipe.method == "relora" and step % recipe.relora.merge_every == 0
    return due and step < total_steps


def rate_of_run(recipe: Recipe, step: int, total_steps: int) -> float:
    """Give the learning rate of a step, which method relora warms up anew after each merge.

    The warm-up rises linearly to the schedule of the whole run, which it goes on with (the jagged
    schedule of Lialin et al. 2023, section 3).
    """
    rate = learning_rate_at(recipe.train, step, total_steps)
    relora = recipe.relora
    if recipe.method != "relora" or step <= relora.merge_every:
        return rate
    since_merge = (step - 1) % relora.merge_every + 1
    return rate * min(1.0, since_merge / max(relora.warmup_steps, 1))
