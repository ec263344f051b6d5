"""Loss, perplexity and bits per byte of scored examples, with clustered intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from tunebook.records import Estimate, ItemScore
from tunebook.statistics.estimate import ratio_estimate

MARGIN_NATS = 0.01
"""Losses per token that differ by less are as good as equal: one percent of perplexity."""
MARGIN_BITS = 0.004
"""The same in bits per byte, a token being about four bytes."""

_SHOWN = 3


def bits_per_byte(rows: Sequence[ItemScore], scored_bytes: Mapping[str, int]) -> Estimate | None:
    """Give S / (ln 2 * B), B the UTF-8 bytes of exactly the scored text; None without any.

    Special tokens count in S and not in B. `scored_bytes` is by item id.
    """
    in_bits = [
        replace(row, value=row.value / math.log(2), n_units=scored_bytes[row.item_id])
        for row in rows
        if row.value is not None and scored_bytes[row.item_id]
    ]
    return ratio_estimate(in_bits) if in_bits else None


def by_tag(rows: Sequence[ItemScore]) -> dict[str, Estimate]:
    """Estimate the loss of each source."""
    tags = dict.fromkeys(tag for row in rows for tag in row.tags)
    return {tag: ratio_estimate(row for row in rows if tag in row.tags) for tag in tags}


def pick_examples(lines: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, list[Any]]:
    """Choose the lines of lowest and highest loss per target token, and some at random."""
    ordered = sorted(lines, key=lambda line: line["value"] / line["n_units"])
    drawn = Random(seed).sample(ordered, min(_SHOWN, len(ordered)))
    return {
        "lowest": list(ordered[:_SHOWN]),
        "highest": list(ordered[: -_SHOWN - 1 : -1]),
        "random": drawn,
    }


def perplexities(estimate: Estimate) -> dict[str, Any]:
    """Give perplexity with its interval; infinite where the exponential overflows."""
    ends = estimate.interval
    return {
        "score": None if estimate.score is None else _exp(estimate.score),
        "interval": None if ends is None else [_exp(end) for end in ends],
    }


def _exp(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
