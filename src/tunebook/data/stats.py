"""Describe a tokenized source in numbers: where its rows went, and how long they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.data.build import Built, row_notes
from tunebook.data.sources import describe_files
from tunebook.data.store import Store

PERCENTILES = (5, 25, 50, 75, 95, 99)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Numbers of many rows: how many, mean, median, extremes, percentiles (linear between)."""

    n: int
    mean: float
    median: float
    min: int
    max: int
    percentiles: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SourceStats:
    """A source: rows as in `SourceAccount`, lengths in tokens of the rows that are left.

    `file_rows` counts rows of the files, of which one may be several examples; `rows_in` counts
    examples. `target_lengths` are target tokens per row; `bytes_per_token` is of target tokens.
    """

    name: str
    path: str
    format: str
    template: str
    file_rows: int
    rows_in: int
    dropped: Mapping[str, int]
    rows_out: int
    cut_rows: int
    cut_tokens: int
    left_out_rows: int
    left_out_turns: int
    documents: int
    repeated_rows: int
    tokens: int
    target_tokens: int
    bytes_per_token: float | None
    lengths: Distribution | None
    target_lengths: Distribution | None
    notes: tuple[str, ...]


def describe_source(built: Built) -> SourceStats:
    """Count and measure a source; rows that say the same as an earlier one are counted, not cut."""
    store, facts = built.store, built.store.facts
    lengths, targets = store.lengths, store.target_counts()
    n_targets, n_bytes = int(targets.sum()), int(store.rows["n_bytes"].sum(dtype=np.int64))
    return SourceStats(
        name=built.name,
        path=built.located.path,
        format=built.detected.format,
        template=built.renderer.name,
        file_rows=facts["file_rows"],
        rows_in=facts["rows_in"],
        dropped=dict(facts["dropped"]),
        rows_out=facts["rows_out"],
        cut_rows=facts["cut_rows"],
        cut_tokens=facts["cut_tokens"],
        left_out_rows=facts["left_out_rows"],
        left_out_turns=facts["left_out_turns"],
        documents=len(np.unique(store.rows["document"])),
        repeated_rows=_repeats(store),
        tokens=int(lengths.sum()),
        target_tokens=n_targets,
        bytes_per_token=n_bytes / n_targets if n_targets else None,
        lengths=distribution(lengths),
        target_lengths=distribution(targets),
        notes=tuple(filter(None, (describe_files(built.located), *row_notes(facts)))),
    )


def distribution(values: NDArray[np.int64]) -> Distribution | None:
    """Describe numbers; None when there are none."""
    if not len(values):
        return None
    found = np.percentile(values, PERCENTILES)
    return Distribution(
        n=len(values),
        mean=float(values.mean()),
        median=float(np.median(values)),
        min=int(values.min()),
        max=int(values.max()),
        percentiles={f"p{p}": float(v) for p, v in zip(PERCENTILES, found, strict=True)},
    )


def _repeats(store: Store) -> int:
    """Count rows that say what an earlier row says; windows of one row are one row."""
    first = store.rows["content"][store.rows["window"] <= 1]
    return len(first) - len(np.unique(first))
