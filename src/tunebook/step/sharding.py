"""Weights spread over the devices of a team (FSDP2: each rank holds a slice of every tensor).

A layer's weights are gathered when it is run and let go after it. What lies outside of layers
(embeddings, the last norm, the head) belongs to one root, whose forward is the scoring of a batch:
the loss is taken from hidden states through the head's weight, past the model's own forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from tunebook.models.layers import find_layers
from tunebook.models.load import LoadedModel
from tunebook.step.team import Team

T = TypeVar("T")


class _Root(nn.Module):
    """Runs anything with the weights outside of layers gathered."""

    def __init__(self, causal: nn.Module) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, do: Callable[[], T]) -> T:
        return do()


def shard_model(loaded: LoadedModel, team: Team, device: str, precision: str) -> LoadedModel:
    """Spread a model over the team's devices; what each rank loaded must be the same.

    The slices are fp32 and what the optimizer moves; with bf16 they are rounded to it on their way
    to the other ranks, and gradients are added up in fp32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device, (team.size,))
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if precision == "bf16":
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for parameter in loaded.causal.parameters():
        parameter.data = parameter.data.float()
    root = _Root(loaded.causal)
    for layer in find_layers(loaded.causal)[1]:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(root, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            # A sum: each rank has divided by the target tokens of the whole step already.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return replace(loaded, root=root)


def with_root(loaded: LoadedModel, do: Callable[[], T]) -> T:
    """Do something that reads weights outside of layers, on every rank at once."""
    if loaded.root is None:
        return do()
    found: T = loaded.root(do)
    if not torch.is_grad_enabled():
        # Nothing lets them go after a forward without a backward, and an update would pass them by.
        loaded.root.reshard()
    return found


def is_sharded(tensor: torch.Tensor) -> bool:
    """Tell whether this rank holds only a slice of a tensor."""
    return hasattr(tensor, "to_local")


def local_part(tensor: torch.Tensor, rank: int, size: int) -> tuple[torch.Tensor, int]:
    """Give this rank's part of a tensor, flat, and how many elements come before it."""
    if not is_sharded(tensor):
        return tensor.reshape(-1), 0
    # Rows are dealt out as torch.chunk cuts them (`fully_shard`'s documentation).
    rows = -(-tensor.shape[0] // size)
    before = min(rank * rows, tensor.shape[0]) * (tensor.numel() // max(tensor.shape[0], 1))
    part: torch.Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part.reshape(-1), before


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Gather a tensor from all ranks."""
    gathered: torch.Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return gathered


def whole_weights(loaded: LoadedModel, team: Team, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Gather all weights, one after the other, in the memory of rank 0's host; {} on other ranks.

    Parameters get the type they are stored in; tied ones stay one tensor.
    """
    named = loaded.causal.state_dict(keep_vars=True)
    made: dict[int, torch.Tensor] = {}
    # Each once, on every rank: gathering is a joint act.
    for tensor in {id(t): t for t in named.values()}.values():
        full = whole(tensor.detach())
        if team.rank == 0:
            made[id(tensor)] = (full.to(dtype) if is_sharded(tensor) else full).cpu()
    return {name: made[id(tensor)] for name, tensor in named.items()} if made else {}
