"""Trials of a sweep held against each other on their held-out documents, one run of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunebook.book.events import read_events
from tunebook.book.places import RunFolder
from tunebook.evaluate.loss import MARGIN_NATS
from tunebook.records import ItemScore, ValidationRecord
from tunebook.statistics.compare import compare_many
from tunebook.trials import SweepPoint
from tunebook.workflows.versus_runs import document_rows

BITS = "bits_per_byte"
_PER_TOKEN = ("val_loss", "best_val_loss", "perplexity")
_ONE_SEED = (
    "one run of each combination: another seed may order them otherwise; `seeds: 3` measures that"
)
_OF_DOCUMENTS = "intervals are of the held-out documents"


def unlike_words(points: Sequence[SweepPoint], book: Path, by: str) -> str | None:
    """Say why the results of these combinations do not compare; None where they do.

    Losses per token are of the same thing only where the same text is cut into the same tokens, and
    bits per byte where the same text is scored.
    """
    lasts = list(_last_validations(points, book).values())
    if by not in (*_PER_TOKEN, BITS) or len(lasts) < 2:
        return None
    texts = {(last.documents, last.scored_bytes) for last in lasts}
    if len(texts) > 1:
        counts = sorted(f"{docs} with {n} bytes" for docs, n in texts)
        return (
            f"the held-out documents are not the same for all ({'; '.join(counts)}), so no result "
            "is the best: rows that are too long for one tokenizer or template are left out; see "
            "max_seq_len"
        )
    tokens = sorted({last.target_tokens for last in lasts if last.target_tokens})
    if by in _PER_TOKEN and len(tokens) > 1:
        return (
            f"the same text is {tokens[0]:,} to {tokens[-1]:,} target tokens: {by} of different "
            f"tokenizers does not compare, so none is the best; say by: {BITS}"
        )
    return None


def _last_validations(points: Sequence[SweepPoint], book: Path) -> dict[int, ValidationRecord]:
    """Give the last validation of each combination's first run, where there is a result."""
    found = {}
    for one in points:
        if one.mean is not None:
            validations = read_events(RunFolder(book, one.runs[0])).validations
            if validations:
                found[one.point] = validations[-1]
    return found


def with_documents(
    points: Sequence[SweepPoint], book: Path, by: str
) -> tuple[list[SweepPoint], list[str]]:
    """Add intervals over held-out documents, and the verdict of each run against the best."""
    if by not in ("val_loss", BITS) or len(points) < 2 or points[0].mean is None:
        return list(points), [_ONE_SEED]
    lasts = _last_validations(points, book)
    rows = {str(p): _rows(str(p), last, by) for p, last in lasts.items()}
    best = str(points[0].point)
    items = {name: frozenset(row.item_id for row in own) for name, own in rows.items()}
    pairs = [
        (name, best) for name in rows if name != best and rows[name] and items[name] == items[best]
    ]
    margin = MARGIN_NATS if by == "val_loss" else _bits(MARGIN_NATS, lasts[points[0].point])
    told = compare_many(rows, pairs, margin=margin) if pairs else {}
    made = []
    for one in points:
        found = told.get((str(one.point), best))
        made.append(
            replace(
                one,
                interval=_interval(lasts.get(one.point), by),
                verdict="" if found is None else found.verdict,
                difference=None if found is None else found.interval,
            )
        )
    return made, [_ONE_SEED, _OF_DOCUMENTS]


def _rows(name: str, last: ValidationRecord, by: str) -> list[ItemScore]:
    """Give the documents as items: nats per token, or bits per byte.

    How many bytes each document has is not kept, so all count with the mean: sums and differences
    of the whole are exact, and intervals are those of equal lengths.
    """
    rows = document_rows(name, last)
    if by == "val_loss" or not rows:
        return rows
    mean_bytes = (last.scored_bytes or 0) / len(rows)
    return [
        replace(row, value=None if row.value is None else row.value / math.log(2) / mean_bytes,
                n_units=1)
        for row in rows
    ]  # fmt: skip


def _interval(last: ValidationRecord | None, by: str) -> tuple[float, float] | None:
    if last is None or last.interval is None or by == "val_loss":
        return None if last is None else last.interval
    low, high = last.interval
    return _bits(low, last), _bits(high, last)


def _bits(nats_per_token: float, last: ValidationRecord) -> float:
    """Turn nats per token into bits per byte of the same text."""
    return (
        nats_per_token * (last.target_tokens or 0) / math.log(2) / (last.scored_bytes or math.nan)
    )
