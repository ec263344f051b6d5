"""The held-out loss and its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tunebook.step.score import ScoredExample, clustered_interval, mean_loss, validation_record


def test_the_loss_is_weighted_by_tokens_not_by_examples() -> None:
    scored = [ScoredExample("a", "s", 10.0, 10), ScoredExample("b", "s", 30.0, 5)]
    assert mean_loss(scored) == pytest.approx(40 / 15)


def test_with_equal_lengths_the_interval_is_the_t_interval_of_the_mean() -> None:
    values = [1.0, 2.0, 2.5, 4.0, 0.5]
    interval = clustered_interval([(value * 8, 8) for value in values])
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert interval == pytest.approx(expected)


def test_one_document_has_no_interval() -> None:
    assert clustered_interval([(4.0, 2)]) is None


def test_a_loss_that_is_not_finite_has_no_interval() -> None:
    assert clustered_interval([(math.nan, 2), (1.0, 2)]) is None


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
