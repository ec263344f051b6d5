"""The processes that train one run together, one per device.

Rank 0 tells the others what comes next (`tell`, `hear`) and all do it at once (`together`), so that
every decision is made in one place and no two ranks can disagree. Numbers travel as tensors, orders
as JSON: nothing is pickled here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch

from tunebook.errors import ModelError

MEET_IN = "TUNEBOOK_RANKS_MEET_IN"
"""In the environment, the file by which the ranks of one host meet; of several hosts, unset."""
_ORDER_BYTES = 8192
# What rank 0 does alone, such as making tokens of 14 GB, may take as long as it takes.
_PATIENCE = timedelta(days=30)

T = TypeVar("T")


@dataclass(eq=False)
class Team:
    """One process's view of all of them; the default one is a process that trains alone."""

    rank: int = 0
    size: int = 1
    control: Any = field(default=None, repr=False)
    broken: bool = False

    @property
    def alone(self) -> bool:
        """Tell whether there is nobody to agree with."""
        return self.size == 1

    def share(self, items: Sequence[T]) -> list[T]:
        """Give this rank's items: every `size`-th, from the one that has its number."""
        return list(items[self.rank :: self.size])

    def add_up(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add a tensor up over all ranks, in place."""
        if not self.alone:
            torch.distributed.all_reduce(tensor)
        return tensor

    def first(self, number: float) -> float:
        """Give rank 0's number to all: what is decided by it is then decided alike."""
        if self.alone:
            return number
        shared = torch.tensor([number], dtype=torch.float64)
        torch.distributed.broadcast(shared, 0, group=self.control)
        return float(shared)

    def most(self, number: int) -> int:
        """Give the largest of all ranks' numbers to all."""
        if self.alone:
            return number
        shared = torch.tensor([number])
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX, group=self.control)
        return int(shared)

    def tell(self, order: str, **details: object) -> None:
        """Tell the other ranks what comes next; from any rank but 0 nothing is told."""
        if self.alone or self.rank:
            return
        text = json.dumps({"order": order, **details}).encode().ljust(_ORDER_BYTES)
        if len(text) > _ORDER_BYTES:
            raise ValueError(f"an order of {len(text)} bytes")
        shared = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        torch.distributed.broadcast(shared, 0, group=self.control)

    def hear(self) -> dict[str, Any]:
        """Wait for what rank 0 tells."""
        shared = torch.empty(_ORDER_BYTES, dtype=torch.uint8)
        torch.distributed.broadcast(shared, 0, group=self.control)
        order: dict[str, Any] = json.loads(bytes(shared.tolist()))
        return order

    @contextmanager
    def together(self, order: str, **details: object) -> Iterator[None]:
        """Tell the others to do what this rank does inside; one that fails there leaves them stuck.

        They are then waiting for this rank in the middle of it and hear nothing more, so `close`
        leaves them to the supervisor.
        """
        self.tell(order, **details)
        self.broken = True
        yield
        self.broken = False

    def close(self) -> None:
        """Let the others go, if they still listen; rank 0 does when it is done."""
        if not self.broken:
            self.tell("end")


ALONE = Team()
"""A run on one device. It holds nothing that changes."""


def join_team(device: str) -> Team:
    """Meet the other ranks, which `torch.distributed.run` started beside this process.

    Collectives on tensors of a CUDA device go through NCCL, all others through gloo. They find each
    other by the file that MEET_IN names, which others cannot open, else by the store of rank 0.
    Raises ModelError when the machine has too few devices.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if device == "mps" and size > 1:
        raise ModelError(f"devices: {size}: there is one mps device; say devices: 1")
    backend = "gloo"
    if device == "cuda":
        there = torch.cuda.device_count()
        if there < here:
            raise ModelError(
                f"{here} devices of this machine: it has {there} CUDA devices; say devices: "
                f"{there * size // here}"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    meeting: dict[str, Any] = {}
    if (path := os.environ.get(MEET_IN)) is not None:
        store = torch.distributed.FileStore(path, size)  # type: ignore[attr-defined]
        meeting = {"store": store, "rank": rank, "world_size": size}
    torch.distributed.init_process_group(backend, **meeting)
    control = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    return Team(rank, size, control)
