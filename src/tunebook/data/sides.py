"""Which rows of a run's sources it trains on, is scored on, and leaves aside, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunebook.accounts import PartsAccount, Slice
from tunebook.data.split import (
    add_slices,
    count_rows,
    measure_slices,
    measure_whole,
    part_of_each,
    refuse_empty_parts,
    split_by_document,
    take_held_out,
    take_sample,
)
from tunebook.data.store import Store
from tunebook.recipe.tree import Recipe

NOT_SAMPLED = "not in the sample"
OTHER_PART = "in another part"
NOT_SCORED = "not in the validation sample"
ASIDE = frozenset({NOT_SAMPLED, OTHER_PART, NOT_SCORED})
"""Why a row that could be used is on no side."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Numbers of a source's examples. `sampled` is `train` before it was cut into parts.

    `aside` counts the rows that are on no side, by reason.
    """

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    sampled: NDArray[np.int64]
    aside: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def used(self) -> NDArray[np.int64]:
        """The examples on either side, in file order."""
        return np.sort(np.concatenate([self.train, self.held_out]))


def take_sides(recipe: Recipe, stores: Sequence[Store]) -> tuple[list[Sides], PartsAccount | None]:
    """Hold out by document, then sample, then cut into parts; each only narrows what is left.

    Raises DataError when a part would be empty.
    """
    sides = [
        _first_sides(recipe, store, source.sample)
        for store, source in zip(stores, recipe.data, strict=True)
    ]
    account = None
    if recipe.parts is not None:
        account, sides = _cut(recipe.parts, recipe.part, stores, sides)
    return score_fewer(recipe, stores, sides), account


def all_held_out(recipe: Recipe, store: Store) -> Sides:
    """Hold out a source of its own."""
    everything = np.arange(len(store), dtype=np.int64)
    none = everything[:0]
    (sides,) = score_fewer(recipe, [store], [Sides(none, everything, none, {}, ())])
    return sides


def _first_sides(recipe: Recipe, store: Store, sample: int | None) -> Sides:
    everything = np.arange(len(store), dtype=np.int64)
    split = split_by_document(store, everything, recipe.validation.fraction or 0.0)
    train = take_sample(store, split.train, sample, recipe.seed)
    notes: tuple[str, ...] = (split.note,) if split.note is not None else ()
    if sample is not None and (n_rows := count_rows(store, split.train)) < sample:
        notes += (f"sample: {sample} asks for more rows than there are, {n_rows}",)
    sides = Sides(split.train, split.held_out, split.train, {}, notes)
    return _narrow(store, sides, NOT_SAMPLED, train=train, sampled=train)


def score_fewer(recipe: Recipe, stores: Sequence[Store], sides: Sequence[Sides]) -> list[Sides]:
    """Score only a sample of what is held out, when the recipe says so."""
    held = [(store, one.held_out) for store, one in zip(stores, sides, strict=True)]
    taken = take_held_out(held, recipe.validation.sample)
    return [
        _narrow(store, one, NOT_SCORED, held_out=fewer)
        for store, one, fewer in zip(stores, sides, taken, strict=True)
    ]


_Placed = tuple[Store, NDArray[np.int64], NDArray[np.int16]]


def _place(
    parts: int, by: str, stores: Sequence[Store], sides: Sequence[Sides]
) -> tuple[list[_Placed], tuple[Slice, ...]]:
    """Give every training example its part, and measure the parts over all sources."""
    placed = [
        (store, one.train, part_of_each(store, one.train, parts, by))
        for store, one in zip(stores, sides, strict=True)
    ]
    by_source = [measure_slices(*three, parts) for three in placed]
    return placed, tuple(add_slices(column) for column in zip(*by_source, strict=True))


def _cut(
    parts: int, part: int | None, stores: Sequence[Store], sides: Sequence[Sides]
) -> tuple[PartsAccount, list[Sides]]:
    by: Literal["document", "piece"] = "document"
    placed, slices = _place(parts, by, stores, sides)
    if not all(one.examples for one in slices):
        by = "piece"
        placed, slices = _place(parts, by, stores, sides)
    whole = add_slices(measure_whole(store, numbers) for store, numbers, _ in placed)
    refuse_empty_parts(whole, slices)
    account = PartsAccount(part, whole, slices, by)
    if part is None:
        return account, list(sides)
    cut = []
    for one, (store, numbers, part_of) in zip(sides, placed, strict=True):
        narrowed = _narrow(store, one, OTHER_PART, train=numbers[part_of == part])
        if len(one.train) and not len(narrowed.train):
            note = f"part {part} of {parts} has none of its rows"
            narrowed = replace(narrowed, notes=(*narrowed.notes, note))
        cut.append(narrowed)
    return account, cut


def _narrow(store: Store, sides: Sides, why: str, **fewer: NDArray[np.int64]) -> Sides:
    """Take fewer examples, and count the rows of which none is left on either side."""
    narrowed = replace(sides, **fewer)  # type: ignore[arg-type]
    n_gone = 0
    if len(narrowed.used) < len(sides.used):
        n_gone = count_rows(store, sides.used) - count_rows(store, narrowed.used)
    return replace(narrowed, aside={**sides.aside, why: n_gone}) if n_gone else narrowed
