"""From score rows to items: repeats together, missing counted, clusters numbered."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunebook.errors import UsageError
from tunebook.records import ItemScore

Array = NDArray[np.float64]
Key = tuple[str, str]
"""(item_id, item_hash): what makes an item the same one in two runs."""


@dataclass(slots=True)
class Item:
    """One item with its repeats; `values` are those that are not missing."""

    key: Key
    n_units: float
    cluster: str
    values: list[float] = field(default_factory=list)
    missing: int = 0
    repeats: set[int] = field(default_factory=set)

    @property
    def mean(self) -> float | None:
        """The mean over repeats; None when all are missing."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    def mean_with(self, per_unit: float) -> float:
        """Give the mean with `per_unit` per unit in place of what is missing."""
        filled = math.fsum(self.values) + self.missing * per_unit * self.n_units
        return filled / (len(self.values) + self.missing)


def collect_items(rows: Iterable[ItemScore]) -> dict[Key, Item]:
    """Group rows by item; UsageError when a row repeats another or disagrees about its item."""
    items: dict[Key, Item] = {}
    for row in rows:
        key = (row.item_id, row.item_hash)
        item = items.setdefault(key, Item(key, row.n_units, row.cluster))
        if row.repeat in item.repeats:
            raise UsageError(
                f"item {row.item_id} has two rows for repeat {row.repeat}; "
                "give rows of one run at a time, and number repeated judgements"
            )
        if (row.n_units, row.cluster) != (item.n_units, item.cluster) or not row.n_units > 0:
            raise UsageError(
                f"item {row.item_id} has n_units {row.n_units:g} and cluster {row.cluster!r}; "
                "units must be above 0, and both the same in all rows of an item"
            )
        item.repeats.add(row.repeat)
        if row.value is None:
            item.missing += 1
        else:
            item.values.append(row.value)
    return items


def examples_hash(rows: Iterable[ItemScore]) -> str:
    """Hash which items were asked, whatever their order, repeats and scores."""
    return hash_keys({(row.item_id, row.item_hash) for row in rows})


def hash_keys(keys: Iterable[Key]) -> str:
    """Hash item keys; lengths go in first, so that no two sets are written alike."""
    digest = hashlib.sha256()
    for parts in sorted(keys):
        for text in map(str.encode, parts):
            digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def cluster_sums(items: Sequence[Item], *columns: Sequence[float]) -> tuple[Array, ...]:
    """Add each column (a number per item) up over clusters."""
    codes = cluster_codes(items)
    return tuple(np.bincount(codes, column).astype(np.float64) for column in columns)


def cluster_codes(items: Sequence[Item]) -> NDArray[np.int64]:
    """Number the clusters from 0, for each item; an unnamed cluster is its item."""
    names = [(item.cluster, "", "") if item.cluster else ("", *item.key) for item in items]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64)
