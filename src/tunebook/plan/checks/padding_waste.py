"""padding-waste: tokens that fill rows up cost as much time as any other."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.rows import batch_rows, padding_of
from tunebook.plan.subject import Subject
from tunebook.records import Finding

_LIMIT = 0.3


def check(subject: Subject) -> Iterator[Finding]:
    """Take the share of padding in all tokens that go through the model."""
    if subject.codec is None:
        return
    n_tokens = sum(len(batch.ids) for batch in subject.batches)
    rows = batch_rows(subject)
    # Tokens of no row at all are padding, too.
    n_padding = n_tokens - sum(len(row.ids) for row in rows)
    n_padding += sum(int(padding_of(row, subject.codec).sum()) for row in rows)
    if n_padding <= _LIMIT * n_tokens:
        return
    yield Finding(
        "padding-waste",
        "warn",
        f"{n_padding / n_tokens:.0%} of the tokens that go through the model are padding, which "
        "takes that share of the time",
        {
            "share": n_padding / n_tokens,
            "padding_tokens": n_padding,
            "tokens": n_tokens,
            "micro_batches": len(subject.batches),
        },
        "lay rows end to end (`packing: true`), or give `train.micro_batch_size: 1`",
    )
