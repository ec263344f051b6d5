"""The fastest that a device multiplies matrices and copies memory, measured: what a step is up to.

No step gets to it: its products are smaller, and it does more than multiply.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Squares, larger ones while there is time: an emulated precision takes seconds for the third.
_SIDES = {"cuda": (1024, 4096, 8192), "cpu": (256, 512, 1024, 2048)}
# Twice of this lies beyond the caches. On a CPU it is no more than the largest product takes: what
# is made here stays with the process, whose memory was planned.
_COPIED_BYTES = {"cuda": 256 << 20, "cpu": 24 << 20}
_MOST_REPEATS = 10


def matrix_product_flops(
    precision: str, device: torch.device | None = None, seconds: float = 0.3
) -> float:
    """Measure the operations per second of a matrix product: the best of several sizes and tries.

    It takes about `seconds`, and draws from no generator but its own. Numbers are random: a GPU
    multiplies zeros faster, for want of heat.
    """
    device = device or torch.device("cpu")
    drawn = torch.Generator(device).manual_seed(1)
    best = took = before = 0.0
    deadline = time.perf_counter() + seconds
    for side in _SIDES.get(device.type, _SIDES["cpu"]):
        left = deadline - time.perf_counter()
        if best and took * (side / before) ** 3 > left:
            break
        pair = torch.randn(2, side, side, generator=drawn, device=device)
        one, other = pair.to(DTYPES[precision])
        took, before = _fastest(partial(torch.matmul, one, other), device, left / 2), side
        best = max(best, 2.0 * side**3 / took)
    return best


def copy_bytes_per_second(device: torch.device) -> float:
    """Measure how many bytes a copy beyond the caches reads and writes in a second."""
    n_bytes = _COPIED_BYTES.get(device.type, _COPIED_BYTES["cpu"])
    source = torch.ones(n_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source), device, 0.1)


def _fastest(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Give the shortest time of work that is repeated for some seconds, and at least twice."""
    found: list[float] = []
    while len(found) < 2 or (sum(found) < seconds and len(found) < _MOST_REPEATS):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - started)
    return min(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
