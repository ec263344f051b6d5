"""Overfitting: held-out loss up while the training loss goes down, at a stated rate of errors."""

from __future__ import annotations

import pytest

from made_curves import falling, made_log, with_holes, without_documents
from tunebook.watch.diagnose import DETECTORS, coverage, diagnose
from tunebook.watch.overfitting import find_overfitting
from tunebook.watch.run_log import RunLog


def valley(bottom: float = 0.4, rise: float = 0.6) -> object:
    """Fall to 2 nats at `bottom` of the run, then rise by `rise` until its end."""

    def loss(x: float) -> float:
        if x <= bottom:
            return 2.0 + (bottom - x) / bottom
        return 2.0 + rise * (x - bottom) / (1 - bottom)

    return loss


@pytest.mark.parametrize("holed", [False, True])
def test_the_onset_is_the_lowest_validation_and_the_documents_that_got_worse_are_named(holed):
    log = made_log(falling(3, 0.2), valley(), epochs=4)
    found = find_overfitting(with_holes(log) if holed else log)
    assert found is not None
    assert (found.kind, found.confidence) == ("overfitting", "likely")
    assert found.step in (60, 80, 100)
    low, high = found.evidence["onset_between"]
    assert low < found.step < high
    assert found.evidence["documents"] == 300
    assert found.evidence["p"] < 1e-3
    worst = found.evidence["got_worse"][0]
    assert worst["after"] > worst["before"]
    assert found.changes == (f"train.max_steps={found.step}",)
    assert "power" not in found.evidence


def test_a_held_out_loss_that_levels_out_is_none_in_a_hundred_runs():
    for seed in range(100):
        log = made_log(falling(3, 0.5), falling(3, 2), documents=60, seed=seed)
        assert find_overfitting(log) is None


def test_a_rise_together_with_the_training_loss_is_no_overfitting():
    hurt = lambda x: 2.0 if x < 0.5 else 2.0 + 3 * (x - 0.5)  # noqa: E731
    assert find_overfitting(made_log(hurt, valley(0.5), epochs=4)) is None
    assert find_overfitting(without_documents(made_log(hurt, valley(0.5), epochs=4))) is None


def test_it_is_amber_until_the_next_validation_confirms_it():
    log = made_log(falling(3, 0.2), valley(0.8, 0.5), epochs=4)
    until = [RunLog(log.steps[:n], log.validations[: n // 20 + 1], log.facts) for n in (180, 200)]
    first, second = map(find_overfitting, until)
    assert first is not None
    assert second is not None
    assert (first.confidence, second.confidence) == ("amber", "likely")
    assert first.step == second.step == 160


def test_while_all_rows_are_new_a_third_validation_must_confirm_it():
    log = made_log(falling(3, 0.2), valley(0.7, 0.5))
    until = [RunLog(log.steps[:n], log.validations[: n // 20 + 1], log.facts) for n in (180, 200)]
    first, second = map(find_overfitting, until)
    assert first is not None
    assert second is not None
    assert (first.confidence, second.confidence) == ("amber", "likely")


def test_weights_that_were_hurt_at_first_and_recover_do_not_overfit():
    held_out = lambda x: 2.0 if x == 0 else 3.0 - 0.9 * x  # noqa: E731
    assert find_overfitting(made_log(falling(3, 0.5), held_out, epochs=4)) is None


def test_a_single_bad_validation_is_passed_over():
    bump = lambda x: falling(3, 2)(x) + (0.3 if x == 0.5 else 0.0)  # noqa: E731
    assert find_overfitting(made_log(falling(3, 0.5), bump)) is None


def test_few_documents_are_said_to_have_little_power():
    found = find_overfitting(made_log(falling(3, 0.2), valley(), documents=50, epochs=4))
    assert found is not None
    assert "50 documents" in found.evidence["power"]


def test_an_imported_curve_has_the_coarse_rule_and_says_so():
    log = made_log(falling(3, 0.2), valley(), epochs=4)
    found = find_overfitting(without_documents(log))
    assert found is not None
    assert found.confidence == "likely"
    assert "coarse" in found.evidence
    assert find_overfitting(without_documents(made_log(falling(3, 0.2), falling(3, 2)))) is None
    short = RunLog(log.steps[:120], log.validations[:7], log.facts)
    assert find_overfitting(without_documents(short)) is None


def test_a_rise_that_few_documents_do_not_confirm_is_not_said_to_be_none():
    # A rise of a tenth, seen on documents that differ by far more than that.
    log = made_log(falling(3, 0.2), valley(0.8, 0.06), documents=8, epochs=4)
    assert find_overfitting(log) is None
    seen, blind = coverage(log)
    assert "overfitting" not in seen
    assert "above its lowest, which 8 documents cannot tell from chance" in blind["overfitting"]
    mine = [one for one in DETECTORS if "overfitting" in one.kinds or "memorised" in one.kinds]
    (quiet,) = diagnose(log, mine)
    assert quiet.kind == "no_fault_found"
    assert "nothing can be told of overfitting" in quiet.cause


def test_a_loss_that_does_not_rise_needs_no_more_documents_to_be_told():
    log = made_log(falling(3, 0.5), falling(3, 2), documents=8, epochs=4)
    assert "overfitting" in coverage(log)[0]
    risen = made_log(falling(3, 0.2), valley(), documents=60, epochs=4)
    assert find_overfitting(risen) is not None
    assert "overfitting" in coverage(risen)[0]
