"""Learning rate too low: hardly any movement and hardly any gain."""

from __future__ import annotations

import pytest

from made_curves import falling, made_log, with_holes
from tunebook.watch.lr_too_low import find_lr_too_low
from tunebook.watch.run_log import RunFacts


def flat(x: float) -> float:
    return 2.5


@pytest.mark.parametrize("holed", [False, True])
def test_the_learning_rate_that_would_move_the_weights_as_usual_is_proposed(holed):
    log = made_log(flat, lambda x: 2.5 - 0.004 * x, learning_rate=3e-8, update_ratio=1e-6)
    found = find_lr_too_low(with_holes(log) if holed else log)
    assert found is not None
    assert found.changes == ("train.learning_rate=3e-05",)
    assert 0 <= found.evidence["gain"] < 0.02


def test_a_base_that_knows_the_data_already_is_not_to_blame_on_the_learning_rate():
    assert find_lr_too_low(made_log(flat, flat, update_ratio=1e-3)) is None


def test_small_updates_that_lower_the_loss_are_enough():
    assert find_lr_too_low(made_log(falling(), falling(), update_ratio=2e-5)) is None


def test_weights_that_do_not_move_at_all_are_another_matter():
    assert find_lr_too_low(made_log(flat, flat, update_ratio=0.0)) is None


def test_an_imported_curve_is_judged_by_its_learning_rate_alone():
    log = made_log(flat, flat, update_ratio=None, learning_rate=1e-9)
    found = find_lr_too_low(log)
    assert found is not None
    assert "coarse" in found.evidence
    assert find_lr_too_low(made_log(flat, flat, update_ratio=None, learning_rate=1e-5)) is None


def test_an_adapter_moves_further_and_a_warm_up_is_waited_for():
    adapter = RunFacts(200, method="lora")
    for ratio, found in ((5e-4, True), (5e-3, False)):
        log = made_log(flat, flat, update_ratio=ratio, facts=adapter)
        assert (find_lr_too_low(log) is not None) is found
    waiting = RunFacts(total_steps=5000, warmup_steps=500)
    assert find_lr_too_low(made_log(flat, flat, update_ratio=2e-5, facts=waiting)) is None


def test_weights_of_which_most_never_change_are_not_helped_by_a_learning_rate():
    assert find_lr_too_low(made_log(flat, flat, update_ratio=1e-6, changed_fraction=0.1)) is None
