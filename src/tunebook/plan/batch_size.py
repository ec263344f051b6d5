"""The micro-batch size: the author's, or the largest that fits and still gains something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tunebook.plan.batch_shapes import Sizes
from tunebook.plan.memory import MemoryPlanner
from tunebook.plan.result import Memory
from tunebook.recipe.tree import Recipe
from tunebook.step.horizon import divisors

# Beyond so many tokens a pass is no faster for being larger, and needs more memory.
_ENOUGH_TOKENS = {"cpu": 8192, "mps": 16384, "cuda": 65536}

# Left free: fragments, other processes, and what an estimate of many layers is off.
_MARGIN = 0.1

SizesFor = Callable[[int], Sizes]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A micro-batch size with the memory it needs, and a word where it is not what was asked."""

    micro_batch_size: int
    memory: Memory
    word: str | None = None


def choose_batch_size(recipe: Recipe, planner: MemoryPlanner, sizes_for: SizesFor) -> Chosen:
    """Plan the memory of the batch size in the recipe, or find the one that `auto` means.

    The effective batch size stays what it is. Where nothing fits, the smallest is planned.
    """
    stated = recipe.train.micro_batch_size
    if stated != "auto":
        return Chosen(stated, plan_memory(recipe, planner, sizes_for, stated))
    batch = recipe.train.effective_batch_size
    enough = _ENOUGH_TOKENS[planner.setting.device.kind]
    sizes = divisors(batch, at_most=batch)
    useful = [n for n in sizes if n == 1 or sizes_for(n).typical.tokens <= enough]
    largest = max(useful)
    size = fitting_size(recipe, planner, sizes_for, largest)
    word = f"micro_batch_size {size or 1}: {largest} would not fit" if size != largest else None
    if size is None and word is not None:
        word += ", and nor does 1"
    return Chosen(size or 1, plan_memory(recipe, planner, sizes_for, size or 1), word)


def fitting_size(
    recipe: Recipe, planner: MemoryPlanner, sizes_for: SizesFor, at_most: int
) -> int | None:
    """Give the largest micro-batch size that fits with a margin; None when none does."""
    batch = recipe.train.effective_batch_size
    low, found = 0, None
    sizes = divisors(batch, at_most=at_most)
    high = len(sizes) - 1
    middle = high  # the largest first: mostly it fits
    while low <= high:
        size = sizes[middle]
        longest = sizes_for(size).longest
        if planner.would_fit(longest, accumulates=batch > size, margin=_MARGIN):
            found, low = size, middle + 1
        else:
            high = middle - 1
        middle = (low + high) // 2
    return found


def plan_memory(
    recipe: Recipe, planner: MemoryPlanner, sizes_for: SizesFor, micro_batch_size: int
) -> Memory:
    """Plan the memory of one micro-batch size."""
    accumulates = recipe.train.effective_batch_size > micro_batch_size
    return planner.plan(sizes_for(micro_batch_size), accumulates=accumulates)
