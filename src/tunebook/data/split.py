"""Decide which examples of a store are trained on and which are held out, by document hash."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.data.store import Store


@dataclass(frozen=True, slots=True)
class Split:
    """Numbers of examples in a store, and what has to be said about how they were chosen."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    note: str | None


def take_sample(store: Store, n_rows: int | None, seed: int) -> NDArray[np.int64]:
    """Take the n rows with the smallest seeded hash: a smaller sample is part of a larger one."""
    everything = np.arange(len(store), dtype=np.int64)
    if n_rows is None:
        return everything
    row_of = rows_of(store, everything)
    n_all = int(row_of[-1]) + 1 if len(row_of) else 0
    if n_all <= n_rows:
        return everything
    order = np.argsort(_mix(np.arange(n_all, dtype=np.uint64), seed), kind="stable")
    taken = np.zeros(n_all, dtype=bool)
    taken[order[:n_rows]] = True
    return everything[taken[row_of]]


def rows_of(store: Store, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the rows that examples are windows of, from 0 in file order."""
    rows = store.rows[numbers]
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    new = (np.diff(rows["row"]) != 0) | (np.diff(rows["file"]) != 0)
    return np.concatenate([[0], np.cumsum(new)]).astype(np.int64)


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
    known = np.unique(keys)
    if len(known) == 1:
        rows = rows_of(store, numbers)
        if rows[-1] > 0 and len(np.unique(store.rows["content"][numbers])) == 1:
            all_same = (
                f"all {rows[-1] + 1} rows say the same, so nothing can be held out; filter "
                "exact_duplicate keeps one of them"
            )
            return Split(numbers, none, all_same)
        return _split_tail(numbers, fraction)
    held = keys < np.uint64(min(int(fraction * 2.0**64), 2**64 - 1))
    note = None
    if not held.any():
        held = keys == known[0]
        note = (
            f"a fraction of {fraction:g} of {len(known)} documents holds out none, so one is held "
            "out"
        )
    elif held.all():
        held = keys != known[-1]
        note = f"a fraction of {fraction:g} holds out all {len(known)} documents, so one is kept"
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


def _mix(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Spread numbers over 64 bits with a seed (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
