"""The optimizer of sharded weights in a checkpoint: safetensors, one file per rank, never a pickle.

PyTorch Distributed Checkpoint writes them with its Hugging Face writer, whose files hold beside
each tensor which part of the whole it is, and reads them on any number of devices. A plain
safetensors file counts as one part that is the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from tunebook.errors import CheckpointError
from tunebook.step.optimization import Optimization
from tunebook.step.team import Team

SHARDS = "optimizer"
"""The folder of a checkpoint that holds them."""
# What a safetensors header holds of a tensor beside its name: type, shape and place, in a folder of
# several files the file's name too, or, in escaped JSON, where a shard's part begins.
_ENTRY_BYTES = 160


def write_shards(folder: Path, tensors: dict[str, torch.Tensor], team: Team) -> None:
    """Write this rank's part of named tensors; every rank of the team calls it at once.

    An OSError of any rank is raised on all, CheckpointError for what else goes wrong.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    # Scalars are the same on every rank; a file format with offsets has none of no dimensions.
    state = {name: t.reshape(1) if t.ndim == 0 else t for name, t in tensors.items()}
    try:
        save(state, storage_writer=writer, process_group=team.control)
    except CheckpointException as failed:
        for error, _ in failed.failures.values():
            if isinstance(error, OSError):
                raise error from None
        raise CheckpointError(f"checkpoint {folder.parent} cannot be written: {failed}") from None


def header_bytes(names: Iterable[str], team: Team) -> int:
    """Give the most that each of a team's files holds beside its tensors, times the files.

    The writer names a tensor twice in every header, which is much of a small model's file.
    """
    return team.size * sum(2 * len(name) + _ENTRY_BYTES for name in names)


def read_shards(folder: Path, optimization: Optimization) -> dict[str, torch.Tensor]:
    """Read an optimizer's state, each rank what it needs of it."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    found: dict[str, torch.Tensor] = {}
    for name, facts in reader.read_metadata().state_dict_metadata.items():
        parameter, separator, _ = name.rpartition("|")
        # Weights may lie in the same folder.
        if not separator or not isinstance(facts, TensorStorageMetadata):
            continue
        master = optimization.masters[parameter]
        if facts.size == master.shape:
            found[name] = torch.zeros_like(master, dtype=facts.properties.dtype).detach()
        else:
            found[name] = torch.zeros(facts.size, dtype=facts.properties.dtype)
    # No rank needs another's help to read.
    load(found, storage_reader=reader, no_dist=True)
    return {
        n: t.reshape(()) if t.shape == (1,) and n.endswith("|step") else t for n, t in found.items()
    }
