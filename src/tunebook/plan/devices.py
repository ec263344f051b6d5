"""The devices a run can be planned for, with facts from their makers' data sheets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """A device, here or to be rented. Memory in bytes; None is not known.

    `tflops` is the dense matrix product peak of the data sheet by precision (fp32, tf32, fp16,
    bf16), in 10^12 operations per second. `present` says that it is in this machine.
    """

    name: str
    kind: str
    total_bytes: int | None
    free_bytes: int | None
    bf16: bool
    fp16: bool
    tflops: Mapping[str, float]
    present: bool
    count: int = 1
