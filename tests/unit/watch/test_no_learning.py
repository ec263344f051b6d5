"""No learning: weights that never change although they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from made_curves import falling, made_log, with_holes
from tunebook.watch.frozen_weights import LOOKED_AT_STEPS, find_frozen_weights
from tunebook.watch.no_learning import find_no_learning
from tunebook.watch.run_log import RunFacts, RunLog


def test_a_part_of_the_weights_that_never_changes_is_found():
    log = made_log(falling(), changed_fraction=0.42)
    for each in (log, with_holes(log)):
        found = find_no_learning(each)
        assert found is not None
        assert found.kind == "no_learning"
        assert "58" in found.cause


def test_nothing_trainable_is_found_without_a_step():
    facts = RunFacts(trainable_parameters=0, total_parameters=1000)
    found = find_no_learning(RunLog([], [], facts))
    assert found is not None
    assert found.evidence["trainable_parameters"] == 0


def test_an_adapter_whose_first_half_moves_from_the_second_step_on_is_healthy():
    log = made_log(falling(), changed_fraction=0.99)
    first = replace(log.steps[0], changed_fraction=0.5)
    assert find_no_learning(RunLog([first, *log.steps[1:]])) is None


def test_steps_without_an_update_say_nothing():
    log = made_log(falling(), changed_fraction=0.0, learning_rate=0.0)
    assert find_no_learning(log) is None
    assert find_no_learning(made_log(falling(), changed_fraction=None)) is None


def test_no_gradient_at_all_is_no_learning_and_not_rounding():
    log = made_log(falling(), changed_fraction=0.0, grad_norm=0.0)
    assert find_no_learning(log) is not None
    assert find_frozen_weights(log.steps) is None


def test_shares_that_differ_from_step_to_step_are_rounding():
    log = made_log(falling())
    shares = np.random.default_rng(0).lognormal(-4, 0.5, len(log))
    rounding = [
        replace(s, changed_fraction=float(x)) for s, x in zip(log.steps, shares, strict=True)
    ]
    assert find_no_learning(RunLog(rounding)) is None
    assert find_frozen_weights(rounding) is not None
    assert find_frozen_weights(rounding[:LOOKED_AT_STEPS]) is None
    gone = [replace(s, changed_fraction=0.0) for s in log.steps]
    assert find_frozen_weights(gone) is not None
    assert find_no_learning(RunLog(gone)) is None
