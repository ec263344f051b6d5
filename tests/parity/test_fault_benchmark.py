"""The fault benchmark's committed logs, scored with the detectors of this commit."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "faults"))

from logs import read_split
from score import SCORES, judged, report, rounded


@pytest.fixture(scope="module")
def splits():
    return {split: read_split(split) for split in ("tuning", "scoring", "confirming")}


@pytest.fixture(scope="module")
def found(splits):
    return rounded(report(judged(splits["confirming"])))


def test_clear_and_gross_faults_are_found_by_name_and_little_else_is_reported(found):
    assert found["strong"]["recall"] >= 0.95
    assert found["strong"]["precision"] >= 0.95
    assert found["macro_f1"] >= 0.85


def test_at_most_2_of_100_healthy_runs_raise_an_alarm(found):
    assert found["healthy"] >= 100
    assert found["false_alarms"] <= 0.02 * found["healthy"]


def test_the_cause_is_right_where_it_is_decided_and_else_left_undecided(found):
    causes = found["causes_of_spikes"]
    assert causes["decided_right"] >= 0.9 * causes["decided"] > 0
    assert causes["open_undecided"] >= 0.9 * causes["open"]


def test_single_bad_examples_that_are_clear_or_gross_are_named_exactly(found):
    exact, labelled = found["exact_ids_strong"]
    assert exact >= 0.8 * labelled > 0


@pytest.mark.xfail(reason="11 of 15, 2 of 5 just visible ones, see docs/verdicts.md", strict=True)
def test_single_bad_examples_of_every_strength_are_named_exactly(found):
    exact, labelled = found["exact_ids"]
    assert exact >= 0.8 * labelled > 0


def test_the_benchmark_is_as_large_as_its_numbers_need(found):
    assert len(found["kinds"]) >= 15
    assert len(found["by_substrate"]) >= 4
    assert all(found["strengths"][s]["runs"] >= 50 for s in ("just_visible", "clear", "gross"))


def test_no_seed_base_or_trained_row_is_in_both_splits(splits):
    tuning = splits["tuning"]
    for split in ("scoring", "confirming"):
        for of in (_seeds, _substrates, _rows):
            assert not of(tuning) & of(splits[split])
    assert not _seeds(splits["scoring"]) & _seeds(splits["confirming"])


def _seeds(runs):
    return {run.seed for run in runs}


def _substrates(runs):
    return {run.substrate for run in runs}


def _rows(runs):
    return {example.id for run in runs for step in run.log.steps for example in step.examples}


def test_the_numbers_of_the_page_are_those_of_these_logs_and_detectors(found):
    stored = json.loads(SCORES.read_text(encoding="utf-8"))
    assert stored["confirming"] == found, "run python benchmarks/faults/score.py --write-docs"
