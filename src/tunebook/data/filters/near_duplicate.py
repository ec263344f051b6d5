"""Drop rows that say nearly what an earlier row of the source said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tunebook.data.filters.chain import Memory
from tunebook.data.filters.settings import Between
from tunebook.errors import DataError
from tunebook.records import Example

_WORD = re.compile(r"\w+")
_SEED = 1
_MAX_ROWS_PER_BAND = 8
_LEAST_FOUND = 0.9
# Pairs compared at once, and comparisons with another first row of a crowded band.
_BLOCK_PAIRS = 1 << 16
_MAX_ROUNDS = 32


class NearDuplicate(Memory):
    """Drops rows whose shingles overlap an earlier row's by at least `threshold` (Jaccard).

    Compared is what is trained on and the turn before it, without case and punctuation, cut into
    shingles of `size` running words (or characters, for writing without spaces). Of each row
    `permutations` minimum hashes are remembered, 64 // r bits of each, in bands of r, so that a
    band is one 64-bit value: 128 bytes a row with the defaults.

    Rows of similarity s share a band of r hashes, of b bands, with probability 1 - (1 - s^r)^b
    (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.2); r is the largest up
    to 8 that makes it 90 % at the threshold: with the defaults r = 8, b = 16, and a band is shared
    by 61 % of pairs at 0.7, 95 % at 0.8 and 99.99 % at 0.9. Rows that share a band are then
    compared by all hashes, chance agreement of the kept bits taken off (Li and Koenig 2010), with a
    standard error of sqrt(s (1 - s) / permutations), 0.035 at 0.8; so rows that share little are
    never dropped.

    A row is dropped for any earlier one, kept or not: adding rows at the end changes nothing
    before them. In a band that unlike rows crowd, a row is compared with the first 32 of them that
    are unlike each other, and no more: work stays in proportion to rows, and a copy is missed when
    all bands that it shares with its original are as crowded (many rows of one mould, which a
    larger `size` takes apart).
    """

    why = "near duplicate"

    def __init__(
        self,
        threshold: Annotated[float, Between(0.3, 1)] = 0.8,
        size: Annotated[int, Between(1, 50)] = 3,
        unit: Literal["words", "characters"] = "words",
        permutations: Annotated[int, Between(16, 1024)] = 128,
    ) -> None:
        self.threshold, self.size, self.unit = threshold, size, unit
        self.rows_per_band = choose_rows_per_band(threshold, permutations)
        self.width = permutations // self.rows_per_band
        self._bits = 64 // self.rows_per_band
        _min_hash()

    def key(self, example: Example) -> Sequence[int]:
        """Give the bands of the row's minimum hashes."""
        minima = _min_hash()(num_perm=self.width * self.rows_per_band, seed=_SEED)
        minima.update(self._shingles(_compared(example)))
        hashes = np.array(minima.digest(), dtype=np.uint64).reshape(self.width, -1)
        hashes &= np.uint64((1 << self._bits) - 1)
        hashes <<= np.arange(self.rows_per_band, dtype=np.uint64) * np.uint64(self._bits)
        bands: list[int] = np.bitwise_or.reduce(hashes, axis=1).tolist()
        return bands

    def repeats(
        self, keys: NDArray[np.uint64], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.bool_]:
        """Mark rows that agree with an earlier one: per band one sort, no table of all pairs.

        Takes some 30 bytes of memory a row, since only one band is held at a time.
        """
        found = np.zeros(len(keys), dtype=bool)
        for band in range(self.width):
            grouped, values = _groups(keys, band, rows)
            self._compare_groups(keys, grouped, values, found)
        return found if rows is None else found[rows]

    def fingerprint(self) -> str:
        """Name the version of the hashes, since another finds other rows."""
        return f"rensa {_min_hash().ALGORITHM_VERSION}"

    def _compare_groups(
        self,
        keys: NDArray[np.uint64],
        rows: NDArray[np.int64],
        values: NDArray[np.uint64],
        found: NDArray[np.bool_],
    ) -> None:
        """Compare the rows of each group with its first; those unlike it make a group again."""
        for _ in range(_MAX_ROUNDS):
            if len(rows) < 2:
                return
            starts = np.concatenate([[True], values[1:] != values[:-1]])
            first = rows[np.flatnonzero(starts)[np.cumsum(starts) - 1]]
            similar = starts.copy()
            for at in range(0, len(rows), _BLOCK_PAIRS):
                block = slice(at, at + _BLOCK_PAIRS)
                similar[block] |= self._alike(keys, first[block], rows[block])
            found[rows[similar & ~starts]] = True
            rows, values = rows[~similar], values[~similar]

    def _alike(
        self, keys: NDArray[np.uint64], one: NDArray[np.int64], other: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        differ = keys[one] ^ keys[other]
        lane = np.uint64((1 << self._bits) - 1)
        equal = np.zeros(len(one), dtype=np.int64)
        for place in range(self.rows_per_band):
            equal += ((differ & (lane << np.uint64(place * self._bits))) == 0).sum(axis=1)
        by_chance = 2.0**-self._bits
        share = equal / (self.width * self.rows_per_band)
        alike: NDArray[np.bool_] = (share - by_chance) / (1 - by_chance) >= self.threshold - 1e-9
        return alike

    def _shingles(self, text: str) -> list[str]:
        folded = text.lower()
        words = _WORD.findall(folded)
        if self.unit == "characters":
            joined = " ".join(words) or folded
            return [joined[i : i + self.size] for i in range(max(1, len(joined) - self.size + 1))]
        if len(words) < self.size:
            return [" ".join(words) or folded]
        return list(map(" ".join, zip(*(words[i:] for i in range(self.size)), strict=False)))


def choose_rows_per_band(threshold: float, permutations: int) -> int:
    """Give the most hashes per band, up to 8, that find 90 % of the pairs at the threshold."""
    for rows in range(_MAX_ROWS_PER_BAND, 1, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= _LEAST_FOUND:
            return rows
    return 1


def _groups(
    keys: NDArray[np.uint64], band: int, rows: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Give the rows that share a value of a band with another, by value, then in file order."""
    values = np.array(keys[:, band] if rows is None else keys[rows, band])
    order = np.argsort(values, kind="stable")
    values = values[order]
    same = values[1:] == values[:-1]
    in_group = np.zeros(len(order), dtype=bool)
    in_group[1:] |= same
    in_group[:-1] |= same
    chosen = order[in_group]
    return chosen if rows is None else rows[chosen], values[in_group]


def _min_hash() -> Any:
    """Import the library only when rows are compared; afterwards this is a look in a table."""
    try:
        from rensa import RMinHash
    except ImportError:
        raise DataError("filter near_duplicate needs rensa; pip install rensa") from None
    return RMinHash


def _compared(example: Example) -> str:
    """Join what is trained on and the turns before it.

    Examples of one conversation share their history, and all of one persona its description; by
    those they would all be near duplicates.
    """
    taken: list[str] = []
    asked: list[str] = []
    for message in example.messages:
        if message.role in ("assistant", "text"):
            if message.trained:
                taken += [*asked, message.content]
            asked = []
        elif message.role in ("user", "input"):
            asked.append(message.content)
    return "\n".join(taken)
