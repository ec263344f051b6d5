"""Hold the last validations of runs against each other, where they were not evaluated after."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from tunebook.errors import DefectError
from tunebook.evaluate.loss import MARGIN_NATS
from tunebook.records import Estimate, ValidationRecord
from tunebook.statistics.compare import compare_many
from tunebook.workflows.compare_runs import RunsCompared
from tunebook.workflows.versus_runs import document_rows

KIND = "val_loss"


def compare_validations(lasts: Mapping[str, ValidationRecord]) -> RunsCompared:
    """Compare validations by run, document by document where the documents were recorded.

    Raises DefectError where they were on different examples.
    """
    _refuse_other_examples(lasts)
    estimates = {
        name: Estimate(
            score=one.loss,
            interval=one.interval,
            n=one.documents or one.examples or 0,
            missing=0,
            clusters=one.documents or 0,
            examples_hash=one.examples_hash or "",
            method="t",
        )
        for name, one in lasts.items()
    }
    rows = {name: document_rows(name, one) for name, one in lasts.items()}
    items = {frozenset(row.item_id for row in own) for own in rows.values()}
    told = len(items) == 1 and all(rows.values())
    note = (
        "averages without their documents: how much of their differences is noise is not known; "
        "`tunebook evaluate RUN` scores every example"
    )
    return RunsCompared(
        kind=KIND,
        unit="nats per target token, at the last validation",
        estimates=estimates,
        pairs=compare_many(rows, list(combinations(rows, 2)), margin=MARGIN_NATS) if told else {},
        by_tag={},
        chance_best=None,
        notes=[] if told else [note],
        findings=[],
        lower_is_better=True,
    )


def _refuse_other_examples(lasts: Mapping[str, ValidationRecord]) -> None:
    (a, first), *others = lasts.items()
    for b, one in others:
        if first.examples_hash != one.examples_hash:
            raise DefectError(
                "different-validation-set",
                f"{a} and {b} were validated on different examples",
                f"`tunebook evaluate {a} --data FILE` and `tunebook evaluate {b} --data FILE` "
                "score them alike",
            )
