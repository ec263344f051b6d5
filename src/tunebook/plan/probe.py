"""What a short look at the real model on the real device found, before step 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Probe:
    """One forward and backward pass of a micro-batch of this run; no weight was moved.

    `loss` is per target token, in nats. `peak_bytes` is what the pass needed at most on its device
    (CUDA: the allocator's peak; CPU: the process's), `seconds` how long it took. `weights` is a
    sample of the trained weights as the optimizer holds them, and `dtype` what it moves them in.
    """

    loss: float
    tokens: int
    target_tokens: int
    seconds: float
    peak_bytes: int | None
    weights: torch.Tensor
    dtype: torch.dtype
    n_weights: int
