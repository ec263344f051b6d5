"""What a checkpoint holds beside the weights, as safetensors and JSON: never a pickle.

There is no generator state to save: data order and dropout are pure functions of (seed, step), so
the step number is the position of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tunebook.errors import CheckpointError
from tunebook.models.load import LoadedModel, save_weights
from tunebook.models.tokenizer import tokenizer_bytes
from tunebook.step.optimization import Optimization
from tunebook.step.sharding import whole_weights
from tunebook.step.team import ALONE, Team
from tunebook.train.shards import SHARDS, header_bytes, read_shards, write_shards

FORMAT_VERSION = 1
# Config, position, manifest and tables of contents.
_SMALL_FILES_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands after a step.

    `next_row` counts rows over the whole run; `non_finite_steps` counts steps that were left out;
    `best_step` and `best_loss` are of the best validation so far. `recipe` is what the weights were
    trained by, to be held against the run's by value. `micro_batch_size` and
    `gradient_checkpointing` are what the plan chose: others would round differently, and so does
    another number of `devices`. Checkpoints of earlier releases have None.
    """

    step: int
    total_steps: int
    next_row: int
    seed: int
    recipe: Mapping[str, object] | None
    non_finite_steps: int
    best_step: int | None
    best_loss: float | None
    micro_batch_size: int | None = None
    gradient_checkpointing: bool | int | None = None
    devices: int = 1
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Copied:
    """Weights and optimizer of a whole model between two steps, in the host's memory."""

    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]


def copy_state(loaded: LoadedModel, optimization: Optimization) -> Copied:
    """Copy what `write_state` writes of a model that learns whole, so that steps may go on."""
    named = loaded.causal.state_dict(keep_vars=True)
    # Tied weights stay one tensor, as they are saved.
    once = {id(tensor): tensor for tensor in named.values()}
    once = {key: tensor.detach().to("cpu", copy=True) for key, tensor in once.items()}
    return Copied(
        {name: once[id(tensor)] for name, tensor in named.items()},
        {
            name: tensor.to("cpu", copy=True).contiguous()
            for name, tensor in optimization.state_on_device().items()
        },
    )


def write_state(
    folder: Path,
    loaded: LoadedModel,
    optimization: Optimization,
    position: Position | None,
    team: Team,
    copied: Copied | None = None,
) -> None:
    """Write weights, optimizer and position into a folder that the caller makes durable.

    Every rank writes what it holds of a sharded optimizer; rank 0, the only one to call this where
    nothing is sharded, writes all else and is the one that gives the position. `copied` is written
    in place of what the model has by now.
    """
    with loaded.merger.merged(folder) if loaded.merger is not None else nullcontext():
        write_weights(folder, loaded, optimization, team, copied)
    if optimization.sharded:
        write_shards(folder / SHARDS, optimization.state_on_device(), team)
    else:
        states = optimization.state_tensors() if copied is None else dict(copied.optimizer)
        save_file(states, folder / "optimizer.safetensors")
    if position is None:
        return
    (folder / "state.json").write_text(
        json.dumps(asdict(position), indent=2) + "\n", encoding="utf-8"
    )


def write_weights(
    folder: Path,
    loaded: LoadedModel,
    optimization: Optimization,
    team: Team,
    copied: Copied | None = None,
) -> None:
    """Write a model folder that anything can load; of sharded weights, all ranks together."""
    weights = None if copied is None else dict(copied.weights)
    if loaded.root is not None:
        rounded = torch.bfloat16 if optimization.keeps_rounded else torch.float32
        weights = whole_weights(loaded, team, rounded)
    if team.rank == 0:
        save_weights(loaded, folder, weights)


def state_bytes(loaded: LoadedModel, optimization: Optimization, team: Team) -> int:
    """Give the size of what `write_state` would write now, but for some kilobytes of headers.

    Of sharded weights it is the most: their headers grow with the ranks, and are counted.
    """
    whole = loaded.network is loaded.causal or loaded.merger is not None
    weights = list(loaded.trainable().values())
    if whole:
        weights = [p for n, p in loaded.causal.named_parameters() if "lora_" not in n]
    # What is rounded on its way to the file is not rounded here.
    dtype = torch.bfloat16 if optimization.keeps_rounded else None
    written = sum(p.numel() * (dtype or p.dtype).itemsize for p in weights)
    states = optimization.state_on_device()
    written += sum(tensor.nbytes for tensor in states.values()) + tokenizer_bytes(loaded.folder)
    if optimization.sharded:
        names = loaded.causal.state_dict()
        written += header_bytes(states, team) + header_bytes(names, ALONE) + _SMALL_FILES_BYTES
    return written + (0 if loaded.merger is None else loaded.merger.apart_bytes)


def read_position(folder: Path) -> Position:
    """Read where a checkpoint stands; CheckpointError when it was written by another format."""
    values = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if values.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {folder} has format {values.get('format_version')!r}, this tunebook reads "
            f"format {FORMAT_VERSION}; resume it with the release that wrote it"
        )
    # Checkpoints before 0.1.0 had a hash of the recipe instead of its values.
    values.pop("recipe_hash", None)
    return Position(**{"recipe": None, **values})


def read_optimizer(folder: Path, optimization: Optimization) -> None:
    """Put a checkpoint's optimizer state back, whatever number of devices it was written on."""
    if optimization.sharded or (folder / SHARDS).is_dir():
        shards = folder / SHARDS
        tensors = read_shards(shards if shards.is_dir() else folder, optimization)
    else:
        tensors = load_file(folder / "optimizer.safetensors")
    optimization.load_state_tensors(tensors)
