"""The micro-batch size: the author's, or the largest that fits and still gains something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tunebook.errors import RunFileError
from tunebook.plan.batch_shapes import Sizes
from tunebook.plan.memory import MemoryPlanner, fits
from tunebook.plan.result import Memory
from tunebook.recipe.tree import Recipe
from tunebook.step.horizon import divisors

# Beyond so many tokens a pass is no faster for being larger, and needs more memory.
_ENOUGH_TOKENS = {"cpu": 8192, "mps": 16384, "cuda": 65536}

# Left free: fragments, other processes, and what an estimate of many layers is off.
MARGIN = 0.1

SizesFor = Callable[[int], Sizes]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A micro-batch size with the memory it needs, and a word where it is not what was asked."""

    micro_batch_size: int
    memory: Memory
    word: str | None = None


def choose_batch_size(recipe: Recipe, planner: MemoryPlanner, sizes_for: SizesFor) -> Chosen:
    """Plan the memory of the batch size in the recipe, or find the one that `auto` means.

    The effective batch size stays what it is, over all devices. Where nothing fits, the smallest is
    planned. Raises RunFileError when the devices cannot share the effective batch.
    """
    batch = rows_per_device(recipe, planner.setting.device.count)
    stated = recipe.train.micro_batch_size
    if stated != "auto":
        if batch % stated:
            raise RunFileError(
                f"train.micro_batch_size {stated}: {batch} rows of a step on each device are no "
                f"multiple of it; say {max(n for n in divisors(batch, stated) if n <= stated)}"
            )
        return Chosen(stated, plan_memory(batch, planner, sizes_for, stated))
    enough = _ENOUGH_TOKENS[planner.setting.device.kind]
    sizes = divisors(batch, at_most=batch)
    useful = [n for n in sizes if n == 1 or sizes_for(n).typical.tokens <= enough]
    found = largest_fitting(useful, batch, planner, sizes_for, MARGIN)
    if found is None:
        word = f"micro_batch_size 1: {useful[-1]} would not fit, and nor does 1"
        return Chosen(1, plan_memory(batch, planner, sizes_for, 1), word)
    if found.micro_batch_size == useful[-1]:
        return found
    return replace(
        found, word=f"micro_batch_size {found.micro_batch_size}: {useful[-1]} would not fit"
    )


def largest_fitting(
    sizes: Sequence[int], batch: int, planner: MemoryPlanner, sizes_for: SizesFor, margin: float
) -> Chosen | None:
    """Find the largest of some micro-batch sizes that fits, by halves; None when none does."""
    low, high, found = 0, len(sizes) - 1, None
    middle = high  # the largest first: mostly it fits
    while low <= high:
        memory = plan_memory(batch, planner, sizes_for, sizes[middle])
        if fits(memory, margin):
            found, low = Chosen(sizes[middle], memory), middle + 1
        else:
            high = middle - 1
        middle = (low + high) // 2
    return found


def rows_per_device(recipe: Recipe, count: int) -> int:
    """Give the rows of a step that each device takes; RunFileError when they cannot be shared."""
    batch = recipe.train.effective_batch_size
    if batch % count:
        raise RunFileError(
            f"train.effective_batch_size {batch} cannot be shared by {count} devices; make it a "
            f"multiple of {count}"
        )
    return batch // count


def plan_memory(
    batch: int, planner: MemoryPlanner, sizes_for: SizesFor, micro_batch_size: int
) -> Memory:
    """Plan the memory of one micro-batch size, where a step has `batch` rows on each device."""
    return planner.plan(sizes_for(micro_batch_size), accumulates=batch > micro_batch_size)
