"""How large the micro-batches of a run will be: the one as they are on average, and the largest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.data.batches import numbers_by_batch
from tunebook.data.prepare import Prepared
from tunebook.plan.rehearsal import Shape
from tunebook.recipe.tree import Recipe
from tunebook.step.horizon import Horizon, grouped

# So many rows are looked at, or one epoch: later epochs have the same rows in another order.
_MOST_ROWS = 2_000_000
_MOST_EPOCHS = 100


@dataclass(frozen=True, slots=True)
class Sizes:
    """Micro-batches of a run by their sizes; `longest_rows` are those of the longest one.

    `all_rows` is False where there are so many rows that only the first were looked at.
    """

    typical: Shape
    longest: Shape
    evaluation: Shape | None
    longest_rows: tuple[int, ...] = ()
    all_rows: bool = True


def lengths_of_run(prepared: Prepared, horizon: Horizon) -> NDArray[np.int64]:
    """Give the tokens of each row in the very order it will be trained in, or of the first ones."""
    n_rows = min(horizon.total_rows, max(_MOST_ROWS, horizon.rows_per_epoch))
    epochs = min(-(-n_rows // horizon.rows_per_epoch), _MOST_EPOCHS)
    lengths = [prepared.train.row_lengths(epoch) for epoch in range(epochs)]
    return np.concatenate(lengths)[:n_rows]


def sizes_of_run(
    prepared: Prepared,
    horizon: Horizon,
    lengths: NDArray[np.int64],
    micro_batch_size: int,
    tokens_per_evaluation: int,
) -> Sizes:
    """Find the largest micro-batch of rows of these lengths, as `lengths_of_run` gives them."""
    of_whole_steps, rest = _micro_batches(lengths, horizon.effective_batch_size, micro_batch_size)
    tokens = np.concatenate(
        [lengths[of_whole_steps].sum(1), [lengths[places].sum() for places in rest]]
    )

    def rows(which: np.intp) -> NDArray[np.int64]:
        n = len(of_whole_steps)
        return of_whole_steps[which] if which < n else rest[which - n]

    longest = rows(tokens.argmax())
    return Sizes(
        _shape_of_rows(prepared, rows(np.abs(tokens - tokens.mean()).argmin())),
        _shape_of_rows(prepared, longest),
        _evaluation(prepared, tokens_per_evaluation),
        longest_rows=tuple(longest.tolist()),
        all_rows=len(lengths) == horizon.total_rows,
    )


def _micro_batches(
    lengths: NDArray[np.int64], batch: int, size: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Give the rows of each micro-batch, as steps put them together; apart, those of a last one."""
    n_rows = len(lengths)
    whole = n_rows // batch * batch
    starts = np.arange(0, whole, batch)[:, None]
    places = grouped(lengths[:whole].reshape(-1, batch), size).reshape(-1, batch) + starts
    rest = [np.arange(i, min(i + size, n_rows)) for i in range(whole, n_rows, size)]
    return places.reshape(-1, size), rest


def full_rows(recipe: Recipe, micro_batch_size: int, tokens_per_evaluation: int) -> Sizes:
    """Take every row as long as `max_seq_len` allows, all of it trained: no data has been seen."""
    length = recipe.max_seq_len
    longest = Shape((length,) * micro_batch_size, (length,) * micro_batch_size)
    n_scored = max(1, tokens_per_evaluation // length)
    return Sizes(longest, longest, Shape((length,) * n_scored, (length,) * n_scored))


def _shape_of_rows(prepared: Prepared, rows: NDArray[np.int64]) -> Shape:
    examples = [example for row in rows.tolist() for example in prepared.train.row(row)]
    return Shape(
        tuple(len(example.tokens.ids) for example in examples),
        tuple(sum(example.tokens.target) for example in examples),
    )


def _evaluation(prepared: Prepared, tokens_per_batch: int) -> Shape | None:
    held_out = prepared.validation
    if held_out is None:
        return None
    lengths, targets = held_out.lengths, held_out.target_counts
    numbers = numbers_by_batch(lengths.tolist(), tokens_per_batch)
    found = max(numbers, key=lambda rows: int(lengths[rows.start : rows.stop].sum()))
    return Shape(
        tuple(lengths[found.start : found.stop].tolist()),
        tuple(targets[found.start : found.stop].tolist()),
    )
