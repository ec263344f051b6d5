"""weights-frozen-by-precision: an update below half a unit in the last place rounds to nothing.

A weight w of a type with p bits has neighbours 2^(floor(log2 |w|) - p + 1) apart; adding less than
half of that gives w again. How large an update is follows from the run file: AdamW moves every
weight by about the learning rate (m / sqrt(v) is near 1), plain SGD by the learning rate times the
gradient, whose root mean square over n weights is at most max_grad_norm / sqrt(n) after clipping,
and up to 1 / (1 - momentum) times as much with momentum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from tunebook.plan.subject import Subject
from tunebook.recipe.tree import Train
from tunebook.records import Finding

_LIMIT = 0.99


def check(subject: Subject) -> Iterator[Finding]:
    """Compare the largest typical update with the distance between the weights' neighbours."""
    probe = subject.probe
    if probe is None:
        return
    train = subject.recipe.train
    update = typical_update(train, probe.n_weights)
    if update is None:
        return
    frozen = float((update < _half_units(probe.weights, probe.dtype)).float().mean())
    if frozen <= _LIMIT:
        return
    dtype = str(probe.dtype).removeprefix("torch.")
    yield Finding(
        "weights-frozen-by-precision",
        "refuse",
        f"{frozen:.2%} of the weights, updated in {dtype}, would stay as they are: at the peak "
        f"learning rate {train.learning_rate:g} {train.optimizer} moves a weight by about "
        f"{update:.1e}, less than half the distance to its neighbours",
        {
            "frozen_fraction": frozen,
            "update": update,
            "median_half_unit": float(_half_units(probe.weights, probe.dtype).median()),
            "median_weight": float(probe.weights.abs().median()),
            "dtype": dtype,
            "learning_rate": train.learning_rate,
            "max_grad_norm": train.max_grad_norm,
            "weights": probe.n_weights,
        },
        _way_out(train, probe.dtype),
    )


def typical_update(train: Train, n_weights: int) -> float | None:
    """Give by how much one weight moves in a step at the peak learning rate.

    None for SGD without clipping, where nothing bounds the gradient.
    """
    if train.optimizer != "sgd":
        return train.learning_rate
    if not train.max_grad_norm:
        return None
    gradient = train.max_grad_norm / math.sqrt(n_weights)
    return train.learning_rate * gradient / (1 - train.momentum)


def _half_units(weights: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    # frexp gives w = m * 2^e with 0.5 <= m < 1, and eps is the distance between neighbours at 1.
    _, exponents = torch.frexp(weights.double())
    units = torch.ldexp(torch.full_like(weights, torch.finfo(dtype).eps).double(), exponents - 1)
    return torch.where(weights == 0, 0.0, units / 2)


def _way_out(train: Train, dtype: torch.dtype) -> str:
    higher = "raise train.learning_rate"
    if train.optimizer == "sgd":
        higher += ", or say train.optimizer: adamw"
    return higher if dtype == torch.float32 else f"say precision: fp32, or {higher}"
