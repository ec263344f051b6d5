"""The held-out loss and its interval."""

from __future__ import annotations

import pytest

from tunebook.statistics.estimate import clustered_interval
from tunebook.step.score import ScoredExample, mean_loss, validation_record


def test_the_loss_is_weighted_by_tokens_not_by_examples() -> None:
    scored = [ScoredExample("a", "s", 10.0, 10), ScoredExample("b", "s", 30.0, 5)]
    assert mean_loss(scored) == pytest.approx(40 / 15)


def test_examples_of_one_document_count_as_one_cluster() -> None:
    scored = [ScoredExample(str(i), "s", float(i + 1), 2) for i in range(4)]
    record = validation_record(
        scored,
        step=3,
        documents={"0": "x", "1": "x", "2": "y", "3": "y"},
        scored_bytes=40,
        examples_hash="h",
        started=0.0,
    )
    assert record.documents == 2
    assert record.interval == clustered_interval([(3.0, 4), (7.0, 4)])
    assert record.loss == pytest.approx(10 / 8)
