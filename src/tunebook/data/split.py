"""Decide which examples of a store are trained on, held out or left aside, by hash alone.

Held out comes first, by document and over everything; a sample and the parts are then taken of what
is left to train on. So runs on 300 and on 20,000 rows of a source are scored on the same examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.accounts import Slice
from tunebook.data.store import Store
from tunebook.errors import DataError

# What a hash is for is part of its seed; a run's own seed, below 2^32, is none of these.
_PARTS, _VALIDATION, _WINDOW, _SUM = (2**32 + n for n in range(4))
_BLOCK = 2**18


@dataclass(frozen=True, slots=True)
class Split:
    """Numbers of examples in a store, and what has to be said about how they were chosen."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    note: str | None


def first_of_rows(store: Store, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the first of the examples, in file order, that are windows of one row."""
    first = np.ones(len(numbers), dtype=bool)
    for block in _blocks(len(numbers)):
        start = max(block.start - 1, 0)
        rows = store.rows[numbers[start : block.stop]]
        same = rows["row"][1:] == rows["row"][:-1]
        for field in ("file", "sub"):
            same &= rows[field][1:] == rows[field][:-1]
        first[start + 1 : block.stop] = ~same
    return first


def count_rows(store: Store, numbers: NDArray[np.int64]) -> int:
    """Count the rows that examples, in file order, are windows of."""
    return int(first_of_rows(store, numbers).sum())


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
    first = first_of_rows(store, numbers)
    if int(first.sum()) <= n_rows:
        return numbers
    taken = _smallest(_hashes(store, numbers[first], "content", seed), n_rows)
    return np.asarray(numbers[taken[np.cumsum(first) - 1]])


def take_held_out(
    sides: Sequence[tuple[Store, NDArray[np.int64]]], n_examples: int | None
) -> list[NDArray[np.int64]]:
    """Take of the held-out examples of all sources the n with the smallest hash.

    The hash knows no seed: runs that differ only in theirs are scored on the same examples.
    """
    if n_examples is None or sum(len(numbers) for _, numbers in sides) <= n_examples:
        return [numbers for _, numbers in sides]
    keys = [piece_hashes(store, numbers, _VALIDATION) for store, numbers in sides]
    taken = _smallest(np.concatenate(keys), n_examples)
    bounds = np.cumsum([0, *(len(numbers) for _, numbers in sides)])
    return [
        numbers[taken[start:stop]]
        for (_, numbers), start, stop in zip(sides, bounds[:-1], bounds[1:], strict=True)
    ]


def part_of_each(
    store: Store, numbers: NDArray[np.int64], parts: int, by: str = "document"
) -> NDArray[np.int16]:
    """Give for each example the part it is in, from 1, by a hash of its document.

    The hash is another one than that of the held-out documents and of samples. By piece, it is of
    what a row says, or of the place of a window in its document: a text that grows at its end keeps
    the parts of its windows.
    """
    if by == "document":
        return _parts_of_hashes(_hashes(store, numbers, "document", _PARTS), parts)
    found = np.empty(len(numbers), dtype=np.uint64)
    for block in _blocks(len(numbers)):
        rows = store.rows[numbers[block]]
        window = np.asarray(rows["window"], dtype=np.uint64)
        keys = np.where(window > 0, rows["document"] ^ mix(window, _WINDOW), rows["content"])
        found[block] = mix(np.asarray(keys, dtype=np.uint64), _PARTS)
    return _parts_of_hashes(found, parts)


def _parts_of_hashes(hashes: NDArray[np.uint64], parts: int) -> NDArray[np.int16]:
    share = (hashes >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)
    return share.astype(np.int16) + np.int16(1)


def measure_slices(
    store: Store, numbers: NDArray[np.int64], part_of: NDArray[np.int16], parts: int
) -> list[Slice]:
    """Measure each part of one source's examples, given in file order with the part of each."""
    n_examples = np.bincount(part_of, minlength=parts + 1)
    n_rows = np.bincount(part_of[first_of_rows(store, numbers)], minlength=parts + 1)
    # A document may begin again further on; each is looked up once, at its first example.
    documents, first = np.unique(store.rows["document"][numbers], return_index=True)
    del documents
    n_documents = np.bincount(part_of[first], minlength=parts + 1)
    sums = np.zeros(parts + 1, dtype=np.uint64)
    np.add.at(sums, part_of, piece_hashes(store, numbers, _SUM))
    return [
        Slice(int(n_rows[k]), int(n_documents[k]), int(n_examples[k]), int(sums[k]))
        for k in range(1, parts + 1)
    ]


def measure_whole(store: Store, numbers: NDArray[np.int64]) -> Slice:
    """Measure examples, in file order, as one part."""
    return measure_slices(store, numbers, np.ones(len(numbers), dtype=np.int16), 1)[0]


def add_slices(slices: Iterable[Slice]) -> Slice:
    """Add up what slices hold."""
    rows = documents = examples = checksum = 0
    for one in slices:
        rows, documents = rows + one.rows, documents + one.documents
        examples, checksum = examples + one.examples, (checksum + one.checksum) % 2**64
    return Slice(rows, documents, examples, checksum)


def refuse_empty_parts(whole: Slice, slices: Sequence[Slice]) -> None:
    """Raise DataError when nothing is in a part; whether parts add up is for the plan to check."""
    n_empty = sum(not one.examples for one in slices)
    if n_empty:
        # Parts are drawn by hash, so fewer of them than there are examples may still leave one out.
        least = max(1, min(len(slices) - n_empty, whole.examples // 10))
        raise DataError(
            f"parts {len(slices)}: {whole.examples} examples are too few, nothing is in {n_empty} "
            f"of {len(slices)} parts; say fewer parts, such as parts: {least}"
        )


def _smallest(hashes: NDArray[np.uint64], n: int) -> NDArray[np.bool_]:
    """Mark the n smallest, of equal ones the first."""
    limit = np.partition(hashes, n - 1)[n - 1]
    taken = np.asarray(hashes < limit, dtype=np.bool_)
    equal = np.flatnonzero(hashes == limit)
    taken[equal[: n - int(taken.sum())]] = True
    return taken


def _hashes(store: Store, numbers: NDArray[np.int64], field: str, seed: int) -> NDArray[np.uint64]:
    """Mix a field of the examples with a seed."""
    found = np.empty(len(numbers), dtype=np.uint64)
    for block in _blocks(len(numbers)):
        found[block] = mix(np.asarray(store.rows[field][numbers[block]]), seed)
    return found


def piece_hashes(store: Store, numbers: NDArray[np.int64], seed: int = 0) -> NDArray[np.uint64]:
    """Hash each example with a seed: what its row says and which window of it this is."""
    found = np.empty(len(numbers), dtype=np.uint64)
    for block in _blocks(len(numbers)):
        rows = store.rows[numbers[block]]
        window = np.asarray(rows["window"], dtype=np.uint64)
        window = np.where(window > 0, mix(window, _WINDOW), np.uint64(0))
        found[block] = mix(np.asarray(rows["content"] ^ window, dtype=np.uint64), seed)
    return found


def _blocks(n: int) -> Iterator[slice]:
    """Cut many examples into blocks, so that what is worked out of them is never large."""
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def mix(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Spread numbers over 64 bits with a seed (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))
