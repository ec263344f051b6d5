"""Where the time of one step goes, kernel by kernel, in groups that a way out belongs to.

On a CPU the time of an operator is that of the step; on CUDA kernels run while the step goes on,
so theirs are counted, and what is left is time in which the device does nothing.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from tunebook.book.step_totals import StepProfile
from tunebook.errors import first_line
from tunebook.records import StepRecord

MATRIX, ATTENTION, MEMORY = "matrix products", "attention", "moving memory"
OPTIMIZER, READING = "optimizer", "reading rows"
LAUNCHING, COMMUNICATION = "Python and launching", "communication"
_LARGEST = 6

# Names of torch's operators and of CUDA's kernels; the first that fits. What none fits moves memory
# (elementwise work, norms, softmax, copies): a kernel that does little with each byte it reads.
_GROUPS = (
    (COMMUNICATION, r"nccl|gloo|c10d|all_?reduce|all_?gather|reduce_?scatter|broadcast_coalesced"),
    (ATTENTION, r"attention|flash|fmha|sdpa|varlen"),
    (OPTIMIZER, r"adam|sgd|multi_tensor|_foreach_|ptimizer"),
    (MEMORY, r"CompiledFxGraph|CompiledFunction|Torch-Compiled|^triton_(poi|per|red)"),
    (
        MATRIX,
        r"gemm|gemv|nvjet|cutlass|cublas|triton_tem|triton_mm|^aten::_?(mm|addmm|addmv|bmm|baddbmm"
        r"|mv|dot|linear|matmul|scaled_mm|grouped_mm|weight_int4\w*|mkldnn_\w*)$"
        r"|mkldnn|mkl_linear|onednn",
    ),
    # What a node of the backward pass does besides its kernels, and views, which move nothing.
    (LAUNCHING, r"^autograd::|Backward\d*$|^torch::|^_?[A-Z]\w*$"),
    (
        LAUNCHING,
        r"^aten::(_?(unsafe_|reshape_)?(view|alias)|reshape|transpose|t|permute|as_strided_?|expand"
        r"|slice|select|narrow|split|chunk|unbind|(un)?squeeze|detach_?|to|item|empty\w*)$",
    ),
)
_OF_GROUP = [(name, re.compile(pattern)) for name, pattern in _GROUPS]

T = TypeVar("T")


def group_of(name: str) -> str:
    """Name the group of an operator of torch or a kernel of CUDA."""
    return next((group for group, words in _OF_GROUP if words.search(name)), MEMORY)


class Timed(NamedTuple):
    """What kernels of one name took."""

    name: str
    seconds: float


class Watched:
    """One step that is looked at; whatever breaks in the profiler leaves the step as it is.

    `reason` says why there is no profile.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reason = ""
        self._profiler: profile | None = None

    def take(self, step: Callable[[], T]) -> T:
        """Take a step inside the profiler; what the step raises is raised."""
        self._quietly(self._start)
        try:
            return step()
        finally:
            if self._profiler is not None and not self._quietly(self._profiler.stop):
                self._profiler = None

    def profile_of(self, record: StepRecord) -> StepProfile | None:
        """Sum up what was seen of a step; None where nothing was."""
        found: list[StepProfile] = []
        self._quietly(lambda: found.append(self._profile(record)))
        self._profiler = None
        give_back_memory()
        return found[0] if found else None

    def _start(self) -> None:
        kinds = [ProfilerActivity.CPU]
        if self._device.type == "cuda":
            kinds.append(ProfilerActivity.CUDA)
        profiler = profile(activities=kinds, with_flops=True)
        profiler.start()
        self._profiler = profiler

    def _profile(self, record: StepRecord) -> StepProfile:
        if self._profiler is None:
            raise RuntimeError(self.reason or "the profiler did not start")
        rows: list[Any] = list(self._profiler.key_averages())
        flops = sum(float(row.flops or 0) for row in rows if group_of(row.key) == MATRIX)
        if self._device.type == "cuda":
            events = [e for e in self._profiler.events() or () if _on_cuda(e)]
            kernels = [Timed(e.name, e.time_range.elapsed_us() / 1e6) for e in events]
            busy = covered((e.time_range.start / 1e6, e.time_range.end / 1e6) for e in events)
        else:
            kernels = [Timed(row.key, row.self_cpu_time_total / 1e6) for row in rows]
            busy = sum(kernel.seconds for kernel in kernels)
        return sum_up(record, kernels, busy, flops)

    def _quietly(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except Exception as error:  # a profile is worth no run
            self.reason = self.reason or f"{type(error).__name__}: {first_line(error)}"
            return False
        return True


def give_back_memory() -> None:
    """Return what is free in the heap: the profiler's records lay between tensors and left holes.

    Steps after it would otherwise need a sixth more memory than was planned.
    """
    gc.collect()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def _on_cuda(event: Any) -> bool:
    # A named part of the step covers the kernels in it, and is none.
    named = getattr(event, "is_user_annotation", False)
    return event.device_type.name == "CUDA" and not named


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Add up the time that spans cover, where several overlap once."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def sum_up(
    record: StepRecord, kernels: Iterable[Timed], busy: float, flops: float | None
) -> StepProfile:
    """Put what kernels took into groups that add up to the seconds of their step.

    `busy` are the seconds in which any of them ran. What is left of the step was spent waiting for
    rows, and in Python.
    """
    seconds, reading = record.seconds or 0.0, record.data_seconds or 0.0
    groups: defaultdict[str, float] = defaultdict(float)
    names: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for kernel in kernels:
        group = group_of(kernel.name)
        groups[group] += kernel.seconds
        of_group = names[group]
        of_group[kernel.name] = of_group.get(kernel.name, 0.0) + kernel.seconds
    # Kernels that overlap share the time they cover.
    together = sum(groups.values())
    scale = min(busy, seconds) / together if together > 0 else 0.0
    shared = {name: value * scale for name, value in groups.items()}
    idle = max(seconds - sum(shared.values()), 0.0)
    reading = min(reading, idle)
    shared[READING] = shared.get(READING, 0.0) + reading
    shared[LAUNCHING] = shared.get(LAUNCHING, 0.0) + idle - reading
    ordered = {name: value for name, value in sorted(shared.items(), key=_longest) if value > 0}
    largest = sorted(names.get(next(iter(ordered), ""), {}).items(), key=_longest)[:_LARGEST]
    return StepProfile(
        record.step,
        seconds,
        ordered,
        {name: value * scale for name, value in largest},
        flops or None,
    )


def _longest(item: tuple[str, float]) -> tuple[float, str]:
    return -item[1], item[0]
