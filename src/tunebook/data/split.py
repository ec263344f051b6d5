"""Decide which examples of a store are trained on, held out or left aside, by hash alone.

Held out comes first, by document and over everything; a sample and the parts are then taken of what
is left to train on. So runs on 300 and on 20,000 rows of a source are scored on the same examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.data.store import Store
from tunebook.errors import DataError
from tunebook.records import Slice

# What a hash is for is part of its seed; a run's own seed, below 2^32, is none of these.
_PARTS, _VALIDATION, _WINDOW, _SUM = (2**32 + n for n in range(4))


@dataclass(frozen=True, slots=True)
class Split:
    """Numbers of examples in a store, and what has to be said about how they were chosen."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    note: str | None


def rows_of(store: Store, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the rows that examples are windows of, from 0 in file order."""
    if not len(numbers):
        return np.zeros(0, dtype=np.int64)
    new = np.zeros(len(numbers) - 1, dtype=bool)
    for field in ("file", "row", "sub"):
        new |= np.diff(store.rows[field][numbers]) != 0
    return np.concatenate([[0], np.cumsum(new)]).astype(np.int64)


def count_rows(store: Store, numbers: NDArray[np.int64]) -> int:
    """Count the rows that examples, in file order, are windows of."""
    found = rows_of(store, numbers)
    return int(found[-1]) + 1 if len(found) else 0


def count_documents(store: Store, numbers: NDArray[np.int64]) -> int:
    """Count the documents that examples are of."""
    return len(np.unique(store.rows["document"][numbers]))


def split_by_document(store: Store, numbers: NDArray[np.int64], fraction: float) -> Split:
    """Hold out the documents whose hash is below the fraction.

    Whether a document is held out depends on nothing but itself, so that it stays where it is when
    rows are added. When the threshold would hold out none (or all), the document with the smallest
    (largest) hash is, and the note says so; of a single document the tail is held out, unless it is
    one row many times.
    """
    none = np.zeros(0, dtype=np.int64)
    if fraction <= 0 or not len(numbers):
        return Split(numbers, none, None)
    keys = np.asarray(store.rows["document"][numbers])
    low, high = keys.min(), keys.max()
    if low == high:
        n_rows = count_rows(store, numbers)
        if n_rows > 1 and len(np.unique(store.rows["content"][numbers])) == 1:
            all_same = (
                f"all {n_rows} rows say the same, so nothing can be held out; filter "
                "exact_duplicate keeps one of them"
            )
            return Split(numbers, none, all_same)
        return _split_tail(numbers, fraction)
    held = keys < np.uint64(min(int(fraction * 2.0**64), 2**64 - 1))
    note = None
    if not held.any():
        held = keys == low
        note = (
            f"a fraction of {fraction:g} of {len(np.unique(keys))} documents holds out none, so "
            "one is held out"
        )
    elif held.all():
        held = keys != high
        n_known = len(np.unique(keys))
        note = f"a fraction of {fraction:g} holds out all {n_known} documents, so one is kept"
    return Split(numbers[~held], numbers[held], note)


def _split_tail(numbers: NDArray[np.int64], fraction: float) -> Split:
    n_held = min(max(1, round(fraction * len(numbers))), len(numbers) - 1)
    if n_held == 0:
        note = "one document in one piece: nothing can be held out; say what a document is"
        return Split(numbers, np.zeros(0, dtype=np.int64), note)
    note = (
        f"one document: its tail is held out, {n_held} of {len(numbers)} pieces; say `document:` "
        "for a split by document"
    )
    return Split(numbers[:-n_held], numbers[-n_held:], note)


def take_sample(
    store: Store, numbers: NDArray[np.int64], n_rows: int | None, seed: int
) -> NDArray[np.int64]:
    """Take of these examples the n rows whose content has the smallest seeded hash.

    A smaller sample is part of a larger one, and a row that is in a sample only leaves it for an
    added row with a smaller hash.
    """
    if n_rows is None:
        return numbers
    row_of = rows_of(store, numbers)
    n_all = int(row_of[-1]) + 1 if len(row_of) else 0
    if n_all <= n_rows:
        return numbers
    first = np.searchsorted(row_of, np.arange(n_all))
    contents = np.asarray(store.rows["content"][numbers[first]])
    taken = np.zeros(n_all, dtype=bool)
    taken[np.argsort(mix(contents, seed), kind="stable")[:n_rows]] = True
    return numbers[taken[row_of]]


def take_held_out(
    sides: Sequence[tuple[Store, NDArray[np.int64]]], n_examples: int | None
) -> list[NDArray[np.int64]]:
    """Take of the held-out examples of all sources the n with the smallest hash.

    The hash knows no seed: runs that differ only in theirs are scored on the same examples.
    """
    if n_examples is None or sum(len(numbers) for _, numbers in sides) <= n_examples:
        return [numbers for _, numbers in sides]
    keys = [mix(_piece_keys(store, numbers), _VALIDATION) for store, numbers in sides]
    order = np.argsort(np.concatenate(keys), kind="stable")
    taken = np.zeros(len(order), dtype=bool)
    taken[order[:n_examples]] = True
    bounds = np.cumsum([0, *(len(numbers) for _, numbers in sides)])
    return [
        numbers[taken[start:stop]]
        for (_, numbers), start, stop in zip(sides, bounds[:-1], bounds[1:], strict=True)
    ]


def part_of_each(store: Store, numbers: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Give for each example the part it is in, from 1, by a hash of its document.

    The hash is another one than that of the held-out documents and of samples.
    """
    spread = mix(np.asarray(store.rows["document"][numbers]), _PARTS) >> np.uint64(32)
    return (1 + ((spread * np.uint64(parts)) >> np.uint64(32))).astype(np.int64)


def measure_slices(
    store: Store, numbers: NDArray[np.int64], part_of: NDArray[np.int64], parts: int
) -> list[Slice]:
    """Measure each part of one source's examples, given in file order with the part of each."""
    n_examples = np.bincount(part_of, minlength=parts + 1)
    row_of = rows_of(store, numbers)
    first = np.flatnonzero(np.diff(row_of, prepend=-1))
    n_rows = np.bincount(part_of[first], minlength=parts + 1)
    _, first = np.unique(store.rows["document"][numbers], return_index=True)
    n_documents = np.bincount(part_of[first], minlength=parts + 1)
    sums = np.zeros(parts + 1, dtype=np.uint64)
    np.add.at(sums, part_of, mix(_piece_keys(store, numbers), _SUM))
    return [
        Slice(int(n_rows[k]), int(n_documents[k]), int(n_examples[k]), int(sums[k]))
        for k in range(1, parts + 1)
    ]


def measure_whole(store: Store, numbers: NDArray[np.int64]) -> Slice:
    """Measure examples, in file order, as one part."""
    return measure_slices(store, numbers, np.ones(len(numbers), dtype=np.int64), 1)[0]


def add_slices(slices: Iterable[Slice]) -> Slice:
    """Add up what slices hold."""
    rows = documents = examples = checksum = 0
    for one in slices:
        rows, documents = rows + one.rows, documents + one.documents
        examples, checksum = examples + one.examples, (checksum + one.checksum) % 2**64
    return Slice(rows, documents, examples, checksum)


def check_slices(whole: Slice, slices: Sequence[Slice]) -> None:
    """Require that parts add up to the whole, every example in one of them, and none is empty.

    Raises DataError.
    """
    total = add_slices(slices)
    if total != whole:
        raise DataError(
            f"the {len(slices)} parts hold {total.examples} examples and the whole "
            f"{whole.examples}, or not the same ones; this is a bug in tunebook, please report it"
        )
    empty = [str(place) for place, one in enumerate(slices, start=1) if not one.examples]
    if empty:
        raise DataError(
            f"parts {len(slices)}: {whole.documents} documents are too few, nothing is in part "
            f"{', '.join(empty)}; say fewer parts, or smaller documents with `document:`"
        )


def _piece_keys(store: Store, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash each example: what its row says and which window of it this is."""
    windows = np.asarray(store.rows["window"][numbers]).astype(np.uint64)
    contents = np.asarray(store.rows["content"][numbers])
    return np.asarray(contents ^ np.where(windows > 0, mix(windows, _WINDOW), np.uint64(0)))


def mix(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Spread numbers over 64 bits with a seed (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))
