"""How long a run is, and when things are due, as pure functions known before step 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.data.batches import MicroBatch, collate
from tunebook.data.order import Rows, TrainSet
from tunebook.errors import RunFileError
from tunebook.recipe.measuring import Every
from tunebook.recipe.tree import Recipe

MOST_STEPS = 10_000_000
"""A plan and its checks hold some numbers of each step; nobody trains for so many."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """The length of a run. Rows are counted over the whole run, epoch after epoch."""

    total_rows: int
    total_steps: int
    rows_per_epoch: int
    effective_batch_size: int
    micro_batch_size: int

    def rows_of_step(self, step: int) -> range:
        """Give the row indices of a step counted from 1; the last step may have fewer."""
        first = (step - 1) * self.effective_batch_size
        return range(first, min(first + self.effective_batch_size, self.total_rows))

    def epoch_after(self, step: int) -> float:
        """Give how many passes over the data are done after a step."""
        return self.rows_of_step(step).stop / self.rows_per_epoch

    def due(self, every: Every, step: int) -> bool:
        """Tell whether something that happens `every` so often happens after this step.

        Shares and epochs need not divide the steps: it happens at the step that crosses a mark.
        """
        if isinstance(every, int):
            return step % max(every, 1) == 0
        if every == "epoch":
            done, before = self.epoch_after(step), self.epoch_after(step - 1) if step > 1 else 0.0
            return math.floor(done) > math.floor(before)
        share = float(every[:-1]) / 100
        if share <= 0:
            return False
        marks = math.floor(step / self.total_steps / share + 1e-9)
        return marks > math.floor((step - 1) / self.total_steps / share + 1e-9)


def plan_horizon(recipe: Recipe, data: TrainSet, micro_batch_size: int | None = None) -> Horizon:
    """Work out steps and batch sizes from a recipe and its prepared data.

    `micro_batch_size` is what the plan chose for `auto`; without it, auto is the largest divisor of
    the effective batch size up to 8. Raises RunFileError when the batch is larger than everything
    there is to train on, or the run longer than any.
    """
    batch = recipe.train.effective_batch_size
    if recipe.train.max_steps is not None:
        rows = recipe.train.max_steps * batch
    elif recipe.train.max_tokens is not None:
        tokens_per_step = data.tokens_per_epoch / data.rows_per_epoch * batch
        rows = math.ceil(recipe.train.max_tokens / tokens_per_step) * batch
    else:
        rows = math.ceil((recipe.train.epochs or 1.0) * data.rows_per_epoch)
    if rows < batch:
        raise RunFileError(
            f"train.effective_batch_size {batch} is larger than all the {rows} rows to train on; "
            "make it smaller, or train for more epochs"
        )
    if (steps := -(-rows // batch)) > MOST_STEPS:
        raise RunFileError(
            f"this run would have {steps:.3g} steps, and a run has {MOST_STEPS:,} at most; give "
            "fewer with train.max_steps, train.max_tokens or train.epochs, or a larger "
            "train.effective_batch_size"
        )
    wanted = recipe.train.micro_batch_size
    if wanted == "auto":
        wanted = micro_batch_size or max(divisors(batch, at_most=8))
    return Horizon(rows, steps, data.rows_per_epoch, batch, wanted)


def divisors(batch: int, at_most: int) -> list[int]:
    """List the micro-batch sizes that an effective batch size can be made of, smallest first."""
    small = [size for size in range(1, math.isqrt(batch) + 1) if batch % size == 0]
    large = [batch // size for size in reversed(small) if size * size != batch]
    return [size for size in (*small, *large) if size <= at_most]


def shared_size(batch: int, at_most: int, ranks: int) -> int:
    """Give the largest micro-batch size that gives every rank as many micro-batches of a step.

    Where none does, the largest that gives each at least one.
    """
    sizes = [n for n in divisors(batch, at_most) if batch // n >= ranks] or [1]
    return max([n for n in sizes if batch // n % ranks == 0] or sizes)


def grouped(lengths_SB: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Share the rows of steps out to micro-batches of `size` so that the longest gets shorter.

    Sorted by their tokens they are dealt forth and back. Gives places of rows within their step,
    steps x micro-batches x size; where the longest would not be shorter, they stay in order.
    """
    steps, batch = lengths_SB.shape
    n = batch // size
    found_SNZ = np.tile(np.arange(batch).reshape(n, size), (steps, 1, 1))
    if 1 in (n, size):
        return found_SNZ
    deal_ZN = np.arange(batch).reshape(size, n)
    deal_ZN[1::2] = deal_ZN[1::2, ::-1].copy()
    ranked_SB = np.argsort(-lengths_SB, axis=1, kind="stable")
    dealt_SNZ = np.sort(ranked_SB[:, deal_ZN.T], axis=2)
    shorter_S = _longest(lengths_SB, dealt_SNZ) < _longest(lengths_SB, found_SNZ)
    found_SNZ[shorter_S] = dealt_SNZ[shorter_S]
    return found_SNZ


def _longest(lengths_SB: NDArray[np.int64], places_SNZ: NDArray[np.int64]) -> NDArray[np.int64]:
    of_rows_SB = np.take_along_axis(lengths_SB, places_SNZ.reshape(lengths_SB.shape), axis=1)
    longest_S: NDArray[np.int64] = of_rows_SB.reshape(places_SNZ.shape).sum(2).max(1)
    return longest_S


def batches_of_step(data: Rows, horizon: Horizon, step: int) -> list[MicroBatch]:
    """Read the rows of a step and lay them out as micro-batches, none much longer than the others.

    A last step with fewer rows has them in order.
    """
    rows = [data.row(index) for index in horizon.rows_of_step(step)]
    size = horizon.micro_batch_size
    places = [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    if len(rows) == horizon.effective_batch_size and len(rows) % size == 0:
        lengths = [sum(len(example.tokens.ids) for example in row) for row in rows]
        places = grouped(np.array([lengths], dtype=np.int64), size)[0].tolist()
    return [
        collate(
            [example for place in group for example in rows[place]],
            rows=tuple(place for place in group for _ in rows[place]),
        )
        for group in places
    ]
