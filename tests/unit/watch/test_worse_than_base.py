"""Worse than base: the last held-out loss against that of the untouched model."""

from __future__ import annotations

import pytest

from made_curves import falling, made_log, with_holes, without_documents
from tunebook.watch.run_log import RunLog
from tunebook.watch.worse_than_base import find_worse_than_base


@pytest.mark.parametrize("change", [lambda log: log, with_holes, without_documents])
def test_a_model_that_ends_above_its_base_is_found(change):
    found = find_worse_than_base(change(made_log(falling(), lambda x: 2.0 + 0.3 * x)))
    assert found is not None
    assert found.step == 200
    assert found.evidence["best_is_better_than_base"] is False
    assert ("coarse" in found.evidence) is (change is without_documents)


@pytest.mark.parametrize("change", [lambda log: log, with_holes, without_documents])
def test_one_that_ends_below_or_level_with_it_is_not(change):
    assert find_worse_than_base(change(made_log(falling(), falling()))) is None
    for seed in range(30):
        log = made_log(falling(), lambda x: 2.0, documents=40, seed=seed)
        assert find_worse_than_base(change(log)) is None


def test_better_weights_on_the_way_are_named():
    found = find_worse_than_base(made_log(falling(), lambda x: 2.0 - x if x < 0.5 else 1 + 2.5 * x))
    assert found is not None
    assert found.evidence["best_is_better_than_base"] is True
    assert "step 80" in found.next_action


def test_without_the_base_nothing_is_said():
    log = made_log(falling(), lambda x: 2.0 + x)
    assert find_worse_than_base(RunLog(log.steps, log.validations[1:], log.facts)) is None
