"""What counts as right, false and missed on the fault benchmark (benchmarks/faults/scoring.py)."""

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "faults"))

from scoring import (
    Alarm,
    Label,
    Outcome,
    causes,
    clopper_pearson,
    exact_ids,
    false_alarms,
    score,
)

HEALTHY = Label("calm", "gpt")


def _faulty(kind="lr_jump", strength="clear", first=100, last=120, ids=()):
    return Label("broken", "gpt", "jump", kind, strength, first, last, ids)


def _outcome(label, *alarms):
    return Outcome(label, tuple(Alarm(*alarm) for alarm in alarms))


def test_a_verdict_is_right_only_with_its_kind_and_inside_of_the_window_whose_ends_count():
    for step, right in ((99, 0), (100, 1), (120, 1), (121, 0)):
        found = score([_outcome(_faulty(), (step, "lr_jump"))]).kinds["lr_jump"]
        assert (found.right, found.false) == (right, 1 - right), step
    other = score([_outcome(_faulty(), (110, "bad_batch"))])
    assert other.kinds["lr_jump"].right == 0
    assert other.pooled.detected == 1
    assert other.unlabelled == {"bad_batch": 1}


def test_a_window_from_step_1_takes_what_was_wrong_before_it():
    base = _faulty("random_base", first=1, last=300)
    assert score([_outcome(base, (0, "random_base"))]).pooled.right == 1
    assert score([_outcome(_faulty(), (0, "lr_jump"))]).pooled.right == 0


def test_a_second_verdict_of_the_right_kind_is_false():
    twice = _outcome(_faulty(), (100, "lr_jump"), (110, "lr_jump"))
    found = score([twice]).kinds["lr_jump"]
    assert (found.right, found.false, found.precision) == (1, 1, 0.5)


def test_false_verdicts_on_healthy_and_on_other_runs_lower_the_precision_of_their_kind():
    outcomes = [
        _outcome(_faulty(), (102, "lr_jump")),
        _outcome(_faulty("bad_batch"), (100, "lr_jump")),
        _outcome(HEALTHY, (7, "lr_jump")),
        _outcome(HEALTHY),
    ]
    found = score(outcomes)
    jump, batch = found.kinds["lr_jump"], found.kinds["bad_batch"]
    assert (jump.precision, jump.recall, jump.delays) == (1 / 3, 1.0, (2,))
    assert (batch.recall, batch.f1) == (0.0, 0.0)
    assert math.isnan(batch.precision)
    assert found.macro_f1 == pytest.approx(0.25)  # of 2 * 1 / (2 * 1 + 2) and 0
    assert false_alarms(outcomes) == (1, 2)


def test_runs_of_other_strengths_and_what_was_said_of_them_are_left_out():
    faint = _outcome(_faulty(strength="just_visible"), (100, "bad_batch"))
    found = score([faint, _outcome(_faulty(), (100, "lr_jump"))], ("clear", "gross"))
    assert (found.pooled.runs, found.pooled.precision) == (1, 1.0)


def test_only_a_verdict_that_decides_on_a_cause_can_be_a_wrong_cause():
    outcomes = [
        _outcome(_faulty(), (100, "lr_jump", "certain")),
        _outcome(_faulty(), (100, "bad_batch", "likely")),
        _outcome(_faulty(), (100, "spike_isolated", "undecided")),
        _outcome(_faulty(), (100, "bad_batch", "amber")),
        _outcome(_faulty()),  # not detected, so it has no cause to be wrong about
        _outcome(_faulty("overfitting"), (100, "memorised", "certain")),  # no spike
    ]
    found = causes(outcomes)
    assert (found.decided, found.decided_right, found.open, found.open_undecided) == (2, 1, 2, 1)


def test_ids_are_exact_when_all_are_named_and_no_other():
    one = _faulty("bad_example", ids=("a#1",))
    said = (("a#1",), ("a#1", "a#2"), ())
    outcomes = [_outcome(one, (100, "bad_example", "likely", ids)) for ids in said]
    assert exact_ids([*outcomes, _outcome(one)]) == (1, 4)


def test_the_interval_of_false_alarms_is_that_of_clopper_and_pearson():
    assert clopper_pearson(0, 100) == pytest.approx((0.0, 0.03621669))  # 1 - 0.025 ** (1 / 100)
