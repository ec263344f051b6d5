"""What training changes, kept in memory, so that the same steps can be taken more than once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tunebook.train.loop import Training


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Weights and optimizer state between two steps, in the host's memory."""

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    exact: dict[str, torch.Tensor]


def take_snapshot(training: Training) -> Snapshot:
    """Copy all that a step changes."""
    merger = training.loaded.merger
    return Snapshot(
        {name: _copied(weight) for name, weight in _changing(training).items()},
        {name: _copied(t) for name, t in training.optimization.state_on_device().items()},
        {} if merger is None else {name: _copied(t) for name, t in merger.exact.items()},
    )


@torch.no_grad()
def put_back(training: Training, kept: Snapshot) -> None:
    """Go back to where a snapshot was taken; it can be put back again."""
    for name, weight in _changing(training).items():
        weight.copy_(kept.weights[name])
    training.optimization.clear_gradients()
    # An optimizer without state, as before step 1, makes it anew.
    training.optimization.optimizer.state.clear()
    # On a CPU it keeps the very tensors that it is given.
    state = {name: tensor.clone() for name, tensor in kept.optimizer.items()}
    training.optimization.load_state_tensors(state)
    if training.loaded.merger is not None:
        for name, weight in training.loaded.merger.exact.items():
            weight.copy_(kept.exact[name])


def _changing(training: Training) -> dict[str, torch.Tensor]:
    """Name the weights that steps change: those that learn, and what an adapter is merged into."""
    everything = training.loaded.merger is not None
    return {
        name: weight
        for name, weight in training.loaded.network.named_parameters()
        if everything or weight.requires_grad
    }


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True)
