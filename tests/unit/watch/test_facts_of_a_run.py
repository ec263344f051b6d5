"""Verdicts that facts decide: random base, overlap, no validation, memorised rows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from made_curves import falling, made_log, with_holes, without_documents
from tunebook.watch.memorised import find_memorised
from tunebook.watch.no_validation import find_no_validation
from tunebook.watch.random_base import find_random_base
from tunebook.watch.run_log import RunFacts, RunLog
from tunebook.watch.validation_overlap import find_validation_overlap


def test_a_base_that_guesses_is_random_and_one_that_knows_a_little_is_not():
    facts = RunFacts(200, vocabulary_size=1000)
    guess = falling(math.log(1000))
    found = find_random_base(made_log(guess, guess, facts=facts))
    assert found is not None
    assert found.step == 0
    assert "1,000 tokens" in found.cause
    assert find_random_base(made_log(falling(), falling(5.5), facts=facts)) is None
    assert find_random_base(made_log(guess, guess)) is None
    # Held-out rows alone are that hard: it is not the base that is at fault.
    assert find_random_base(made_log(falling(), guess, facts=facts)) is None


def test_a_base_whose_loss_is_no_number_is_not_called_random():
    log = made_log(falling(), falling(9), facts=RunFacts(200, vocabulary_size=1000))
    broken = [replace(v, loss=math.nan) for v in log.validations]
    assert find_random_base(RunLog(log.steps, broken, log.facts)) is None


def test_overlap_is_counted_and_its_absence_or_ignorance_is_silent():
    log = made_log(falling(), falling(), facts=RunFacts(200, validation_overlap=(30, 120)))
    found = find_validation_overlap(log)
    assert found is not None
    assert found.evidence["share"] == 0.25
    for known in ((0, 120), None):
        facts = RunFacts(200, validation_overlap=known)
        assert find_validation_overlap(RunLog(log.steps, [], facts)) is None


def test_a_run_that_ended_without_validation_is_told_so_and_one_that_goes_on_is_not():
    log = made_log(falling())
    assert find_no_validation(log) is not None
    assert find_no_validation(RunLog(log.steps[:-1], [], log.facts)) is None
    assert find_no_validation(made_log(falling(), falling())) is None
    assert find_no_validation(RunLog([])) is None


@pytest.mark.parametrize("change", [lambda log: log, with_holes, without_documents])
def test_rows_known_by_heart_are_told_from_an_easy_task(change):
    found = find_memorised(change(made_log(falling(3, 0.001, 8), falling(3, 2.0))))
    assert found is not None
    assert 100 < found.step <= 200
    assert find_memorised(change(made_log(falling(3, 0.01), falling(3, 0.02)))) is None
    assert find_memorised(change(made_log(falling(3, 0.5), falling(3, 2.0)))) is None
