"""padding-in-loss: tokens that only fill a row up must not be trained on."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.rows import batch_rows, padding_of
from tunebook.plan.subject import Subject
from tunebook.records import Finding


def check(subject: Subject) -> Iterator[Finding]:
    """Count padding among the target tokens of the micro-batches."""
    if subject.codec is None:
        return
    n_padding = n_target = 0
    ids: list[str] = []
    for row in batch_rows(subject):
        n = int((padding_of(row, subject.codec) & row.target).sum())
        n_padding, n_target = n_padding + n, n_target + int(row.target.sum())
        ids += [row.id] if n else []
    if not n_padding:
        return
    yield Finding(
        "padding-in-loss",
        "refuse",
        f"{n_padding / n_target:.1%} of the target tokens of the first micro-batches are padding, "
        "so the model is trained to write padding",
        {
            "share": n_padding / n_target,
            "padding_tokens": n_padding,
            "target_tokens": n_target,
            "micro_batches": len(subject.batches),
            "rows": ids[:5],
        },
        "take the padding out of the targets where rows are laid into batches, or out of the data",
    )
