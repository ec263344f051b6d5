"""Where the rows of a run went: accounts of sources, of shares in an epoch, and of parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SourceAccount:
    """Where every row of one source went: `rows_in == sum(dropped) + rows_out`, always.

    `cache_key` names the folder of its tokens in the book's cache.
    """

    name: str
    path: str
    format: str
    rows_in: int
    dropped: Mapping[str, int]
    rows_out: int
    cut_rows: int
    cut_tokens: int
    tokens: int
    target_tokens: int
    documents: int
    train_rows: int
    validation_rows: int
    content_hash: str
    notes: tuple[str, ...] = ()
    cache_key: str = ""


@dataclass(frozen=True, slots=True)
class SourceShare:
    """What an epoch takes of one source; a mean where a fraction is drawn anew each epoch.

    `rows` are rows as a batch counts them: with packing, several examples each.
    """

    name: str
    weight: float
    rows: int
    examples: int
    tokens: int
    target_tokens: int


@dataclass(frozen=True, slots=True)
class Slice:
    """How much is in a part of the training rows; all four add up over the parts.

    `checksum` is the sum of a hash of each example, modulo 2^64, whatever their order. A row or a
    document that is cut over parts counts where it begins.
    """

    rows: int
    documents: int
    examples: int
    checksum: int


@dataclass(frozen=True, slots=True)
class PartsAccount:
    """How the training rows fall into parts; `part` is the one trained on, from 1 (None: all).

    `by` says what stays together: a document, or only a piece where documents are too few.
    """

    part: int | None
    whole: Slice
    slices: tuple[Slice, ...]
    by: Literal["document", "piece"] = "document"
