"""eos-never-trained: a model that is never shown where an answer ends does not stop."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.rows import batch_rows, sample_ends
from tunebook.plan.subject import Subject
from tunebook.plan.tokenizer import end_string, rows_without_end
from tunebook.records import Finding

_LEAST = 0.5


def check(subject: Subject) -> Iterator[Finding]:
    """Require that most rows that are there to their end train the token that ends them."""
    end = end_string(subject)
    for place, rows in (("stored", sample_ends(subject)), ("batched", batch_rows(subject))):
        without, n_whole = rows_without_end(subject, rows)
        share = 1 - len(without) / n_whole if n_whole else 1.0
        if share >= _LEAST:
            continue
        yield Finding(
            "eos-never-trained",
            "refuse",
            f"the end token {end!r} is trained in {share:.0%} of {n_whole} {place} rows, so the "
            "model does not learn to stop"
            if end is not None
            else "no special token ends an answer, so the model does not learn to stop",
            {
                "end_token": end,
                "share": share,
                f"{place}_rows": n_whole,
                "rows": [row.id for row in without[:5]],
            },
            "train the end token behind each answer; where padding is the end token, leave only "
            "the padding out of the loss"
            if end is not None
            else "say `template: chat`, or name an eos_token in the tokenizer's "
            "tokenizer_config.json and write it behind answers in the chat template",
        )
        return
