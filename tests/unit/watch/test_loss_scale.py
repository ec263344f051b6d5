"""Loss scale: held-out and training loss of the first epoch, at the same weights."""

from __future__ import annotations

import pytest

from made_curves import falling, made_log, with_holes, without_documents
from tunebook.watch.loss_scale import find_loss_scale_mismatch
from tunebook.watch.run_log import RunFacts


@pytest.mark.parametrize("change", [lambda log: log, with_holes, without_documents])
@pytest.mark.parametrize("factor", [2.6, 0.3])
def test_losses_that_cannot_be_of_the_same_thing_are_found_from_the_base_on(factor, change):
    log = made_log(falling(), lambda x: factor * falling()(x))
    found = find_loss_scale_mismatch(change(log))
    assert found is not None
    assert found.step == 0
    assert found.evidence["ratio"] == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize("change", [lambda log: log, with_holes, without_documents])
def test_a_loss_that_falls_fast_at_first_is_no_mismatch(change):
    fast = lambda x: 0.5 + 6.0 * float(2 ** (-60 * x))  # noqa: E731
    assert find_loss_scale_mismatch(change(made_log(fast, fast, every=5))) is None


def test_what_comes_after_the_first_epoch_is_overfitting_and_no_mismatch():
    many = made_log(
        falling(3, 0.1), falling(3, 2.8), epochs=20, facts=RunFacts(200, steps_per_epoch=10)
    )
    assert find_loss_scale_mismatch(many) is None
    told_by_epochs = made_log(falling(3, 0.1), falling(3, 2.8), epochs=20)
    assert find_loss_scale_mismatch(told_by_epochs) is None
