"""What a short look at the real model on the real device found, before step 1."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from tunebook.data.batches import MicroBatch
from tunebook.models.load import LoadedModel
from tunebook.step.forward import Scorer
from tunebook.step.optimization import Optimization
from tunebook.step.peak import peak_bytes, reset_peak
from tunebook.step.update import add_gradient, seed_for

_SAMPLED_WEIGHTS = 65536
# The first pass pays for page faults and kernels that are loaded once; unless it takes this long, a
# second one is timed and measured.
_SHORT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One forward and backward pass of a micro-batch of this run; no weight was moved.

    `loss` is per target token, in nats, and `loss_spread` the standard deviation of the tokens'
    losses. `peak_bytes` is what the pass needed at most on its device (CUDA: the allocator's peak;
    CPU: the process's; None where the system does not tell), `seconds` how long it took. `weights`
    is an evenly spaced sample of the trained weights as the optimizer holds them, and `dtype` what
    it moves them in. `whole_step` is False where a pass took so long that no second one was made,
    with the optimizer's averages there. `unexpected_weights` stand in the model's files and not in
    the model.
    """

    loss: float
    tokens: int
    target_tokens: int
    seconds: float
    peak_bytes: int | None
    weights: torch.Tensor
    dtype: torch.dtype
    n_weights: int
    whole_step: bool = True
    loss_spread: float | None = None
    unexpected_weights: tuple[str, ...] = ()


def run_probe(
    loaded: LoadedModel,
    scorer: Scorer,
    optimization: Optimization,
    batch: MicroBatch,
    seed: int,
    *,
    accumulates: bool = False,
) -> Probe:
    """Go through one micro-batch as a step would, with updates at a learning rate of 0.

    It is gone through twice, for at the second time the optimizer's averages are there, and where
    the step `accumulates` the gradients of a micro-batch before it. Nothing is left changed: no
    weight, no gradient, no optimizer state, no draw of the generators.
    """
    device = loaded.device
    was_training = loaded.network.training
    loaded.network.train()
    optimization.clear_gradients()
    measurable = reset_peak(device)
    n_targets = int(batch.target.sum())
    scorer = replace(scorer, homes=optimization.homes)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            losses, seconds = _timed_pass(loaded, scorer, batch, seed)
            if seconds < _SHORT_SECONDS:
                _update_by_nothing(optimization)
                if not accumulates:
                    optimization.clear_gradients()
                seconds = min(seconds, _timed_pass(loaded, scorer, batch, seed)[1])
                _update_by_nothing(optimization)
        peak = peak_bytes(device) if measurable else None
    finally:
        optimization.clear_gradients()
        optimization.optimizer.state.clear()
        loaded.network.train(was_training)
    losses_M = losses.float()
    weights, dtype = _sample(optimization.masters)
    return Probe(
        loss=float(losses_M.mean()),
        tokens=len(batch.ids),
        target_tokens=n_targets,
        seconds=seconds,
        peak_bytes=peak,
        weights=weights,
        dtype=dtype,
        n_weights=sum(p.numel() for p in optimization.masters.values()),
        whole_step=seconds < _SHORT_SECONDS,
        loss_spread=float(losses_M.std()) if n_targets > 1 else None,
        unexpected_weights=loaded.unexpected,
    )


def _timed_pass(
    loaded: LoadedModel, scorer: Scorer, batch: MicroBatch, seed: int
) -> tuple[torch.Tensor, float]:
    torch.manual_seed(seed_for(seed, 1, 0))
    started = time.perf_counter()
    losses_M = add_gradient(loaded, scorer, batch, int(batch.target.sum()))
    if loaded.device.type == "cuda":
        torch.cuda.synchronize(loaded.device)
    return losses_M, time.perf_counter() - started


def _update_by_nothing(optimization: Optimization) -> None:
    # 0 times what is not finite would be NaN.
    if bool(torch.isfinite(optimization.grad_norm())):
        optimization.apply(0.0, 1.0)


def _sample(masters: Mapping[str, torch.nn.Parameter]) -> tuple[torch.Tensor, torch.dtype]:
    """Take weights at even distances over all tensors; the type is that of most of them."""
    total = sum(p.numel() for p in masters.values())
    stride = max(1, total // _SAMPLED_WEIGHTS)
    taken = [p.detach().reshape(-1)[::stride].float().cpu() for p in masters.values()]
    by_type: dict[torch.dtype, int] = {}
    for parameter in masters.values():
        by_type[parameter.dtype] = by_type.get(parameter.dtype, 0) + parameter.numel()
    return torch.cat(taken), max(by_type, key=lambda dtype: by_type[dtype])
