"""Stagnation and convergence: the last quarter brought nothing, surely."""

from __future__ import annotations

from dataclasses import replace

import pytest

from made_curves import falling, made_log, with_holes
from tunebook.watch.run_log import RunFacts, RunLog
from tunebook.watch.stagnation import find_stagnation


def soon_flat(x: float) -> float:
    return 1.5 + 1.5 * float(2 ** (-40 * x))


def decayed(log: RunLog) -> RunLog:
    n = len(log)
    steps = [replace(s, learning_rate=1e-3 * (1 - s.step / (n + 1))) for s in log.steps]
    return RunLog(steps, log.validations, log.facts)


@pytest.mark.parametrize("change", [lambda log: log, with_holes])
def test_a_flat_end_is_converged_when_the_rate_decayed_and_stagnation_when_it_did_not(change):
    log = change(made_log(soon_flat, soon_flat, documents=600))
    ended, high = find_stagnation(decayed(log)), find_stagnation(log)
    assert ended is not None
    assert high is not None
    assert (ended.kind, high.kind) == ("converged", "stagnation")
    assert high.step == 140


def test_mid_run_it_says_what_finishing_would_bring():
    log = made_log(soon_flat, soon_flat, documents=600, facts=RunFacts(total_steps=400))
    found = find_stagnation(log)
    assert found is not None
    assert found.kind == "stagnation"
    assert found.evidence["steps_left"] == 200
    assert abs(found.evidence["expected_gain_of_finishing"]) < 0.02


def test_a_loss_that_still_falls_or_never_fell_is_neither():
    assert find_stagnation(made_log(falling(), falling())) is None
    assert find_stagnation(made_log(lambda x: 2.0, lambda x: 2.0)) is None
    assert find_stagnation(made_log(falling(), lambda x: soon_flat(x) + x * x)) is None


def test_without_validations_the_training_loss_decides():
    found = find_stagnation(made_log(soon_flat, steps=12_000))
    assert found is not None
    assert found.kind == "stagnation"
    assert find_stagnation(made_log(falling(6, 0.5), steps=12_000)) is None


@pytest.mark.parametrize("rise", [0.02, 0.05])
def test_a_loss_that_has_left_its_lowest_point_is_neither(rise: float) -> None:
    def past_its_best(x: float) -> float:
        return 1.5 * (1 + rise * min(max(4 * x - 1, 0), 1)) + 1.5 * float(2 ** (-40 * x))

    # It stands still at the end, and higher than it was.
    assert find_stagnation(decayed(made_log(soon_flat, past_its_best, documents=600))) is None
