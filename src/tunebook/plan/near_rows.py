"""Find held-out rows that are nearly the same as a row that is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.data.shards import Part, row_id
from tunebook.plan.rows import spread

_GRAM = 8
_LEAST_GRAMS = 8
# What stands in so many of the held-out rows is the template, or a turn of speech.
_COMMON_SHARE = 0.02
_LONGEST = 1024
_MAX_TOKENS = 3_000_000
_CHUNK_TOKENS = 1_000_000
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_TABLE_BITS = 22

_Place = tuple[Part, int]


@dataclass(frozen=True, slots=True)
class Near:
    """Pairs (held out, trained, overlap), and how many rows of each side were compared."""

    pairs: tuple[tuple[str, str, float], ...]
    held_rows: int
    train_rows: int


def find_near(
    train: Sequence[Part], held: Sequence[Part], n_held: int, n_train: int, overlap: float
) -> Near:
    """Find held-out rows of which one training row has nearly all runs of eight tokens.

    Rows are taken evenly from each side, and of each its first 1,024 tokens, so that 3 million of
    training are looked at; runs that many held-out rows share are left out, and so are rows with
    too few others to be told by.
    """
    places = _take(held, n_held)
    grams = [np.unique(_grams(_ids(place))) for place in places]
    known, times = np.unique(_joined(grams), return_counts=True)
    known = known[times <= max(2, _COMMON_SHARE * len(places))]
    bounds = np.cumsum([len(g) for g in grams])[:-1]
    rare = np.isin(_joined(grams), known)
    grams = [g[keep] for g, keep in zip(grams, np.split(rare, bounds), strict=True)]
    kept = [i for i, g in enumerate(grams) if len(g) >= _LEAST_GRAMS]
    sizes = np.array([len(grams[i]) for i in kept], dtype=np.int64)
    values = _joined([grams[i] for i in kept])
    order = np.argsort(values, kind="stable")
    owners = np.repeat(np.arange(len(kept)), sizes)[order]
    best, best_at = np.zeros(len(kept)), np.zeros(len(kept), dtype=np.int64)
    others = _take(train, n_train)
    size = sum(min(int(part.store.rows["length"][n]), _LONGEST) for part, n in others)
    if size > _MAX_TOKENS:
        others = _take(train, len(others) * _MAX_TOKENS // size)
    if kept:
        index = _Index(values[order], owners)
        for start, ids, owner in _chunks(others):
            held_row, at, count = index.count(ids, owner)
            share = count / sizes[held_row]
            rank = np.argsort(share, kind="stable")
            better = share[rank] > best[held_row[rank]]
            best_at[held_row[rank][better]] = start + at[rank][better]
            best[held_row[rank][better]] = share[rank][better]
    found = np.flatnonzero(best >= overlap).tolist()
    pairs = tuple(
        (_name(places[kept[i]]), _name(others[int(best_at[i])]), round(float(best[i]), 3))
        for i in found
    )
    return Near(pairs, len(kept), len(others))


class _Index:
    """Which held-out rows have a run of tokens; `values` are sorted, and may repeat."""

    def __init__(self, values: NDArray[np.uint64], owners: NDArray[np.int64]) -> None:
        self._values, self._starts = np.unique(values, return_index=True)
        self._counts = np.diff(np.append(self._starts, len(values)))
        self._owners = owners
        self._table = np.zeros(2**_TABLE_BITS, dtype=bool)
        self._table[self._values >> np.uint64(64 - _TABLE_BITS)] = True

    def count(
        self, ids: NDArray[np.uint64], owner: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Count the runs that held-out rows and training rows share: (held, train, count)."""
        grams = _grams(ids)
        within = owner[: len(grams)] == owner[_GRAM - 1 :]
        maybe = np.flatnonzero(within & self._table[grams >> np.uint64(64 - _TABLE_BITS)])
        at = np.minimum(np.searchsorted(self._values, grams[maybe]), len(self._values) - 1)
        hit, width = self._values[at] == grams[maybe], len(self._values)
        # A pair as one number sorts many times faster than as two.
        rows, at = np.divmod(np.unique(owner[maybe[hit]] * width + at[hit]), width)
        times = self._counts[at]
        step = np.arange(int(times.sum())) - np.repeat(np.cumsum(times) - times, times)
        held = self._owners[np.repeat(self._starts[at], times) + step]
        n_rows = int(owner[-1]) + 1
        pairs, count = np.unique(held * n_rows + np.repeat(rows, times), return_counts=True)
        return pairs // n_rows, pairs % n_rows, count


def _take(parts: Sequence[Part], n: int) -> list[_Place]:
    total = sum(len(part.numbers) for part in parts)
    bounds = np.cumsum([0, *(len(part.numbers) for part in parts)])
    found = []
    for place in spread(np.arange(total, dtype=np.int64), n).tolist():
        which = int(np.searchsorted(bounds, place, side="right")) - 1
        found.append((parts[which], int(parts[which].numbers[place - bounds[which]])))
    return found


def _chunks(
    places: Sequence[_Place],
) -> Iterator[tuple[int, NDArray[np.uint64], NDArray[np.int64]]]:
    """Yield training rows laid end to end: the first one's place, ids, and each token's row."""
    waiting: list[NDArray[np.uint64]] = []
    start = size = 0
    for at, place in enumerate(places):
        waiting.append(_ids(place))
        size += len(waiting[-1])
        if size >= _CHUNK_TOKENS or at == len(places) - 1:
            lengths = [len(ids) for ids in waiting]
            yield start, _joined(waiting), np.repeat(np.arange(len(waiting)), lengths)
            waiting, start, size = [], at + 1, 0


def _ids(place: _Place) -> NDArray[np.uint64]:
    part, number = place
    return part.store.tokens(number)[0][:_LONGEST].astype(np.uint64)


def _grams(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash every run of eight tokens (a polynomial in a large odd number, modulo 2^64)."""
    n = len(ids) - _GRAM + 1
    if n <= 0:
        return np.zeros(0, dtype=np.uint64)
    found = np.zeros(n, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for k in range(_GRAM):
            found = found * _FACTOR + ids[k : k + n] + np.uint64(1)
        return np.asarray((found ^ (found >> np.uint64(29))) * _FACTOR, dtype=np.uint64)


def _joined(arrays: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.uint64)


def _name(place: _Place) -> str:
    part, number = place
    one = part.store.rows[number]
    return row_id(part.store, part.name, int(one["file"]), int(one["row"]), int(one["sub"]))
