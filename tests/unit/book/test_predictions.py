from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tunebook.book.predictions import count_outcomes, parse_prediction, score_prediction
from tunebook.errors import RunFileError
from tunebook.kinds import FAMILIES
from tunebook.records import Outcome, RunSummary

OWN = RunSummary(
    "own",
    "finished",
    "m",
    "sft",
    "full",
    val_loss=2.0,
    train_loss=1.5,
    perplexity=math.exp(2),
    base_val_loss=3.0,
    best_val_loss=2.0,
    examples_hash="h",
    seconds=60.0,
    step=10,
    looked_for=("non_finite", *FAMILIES["spike"]),
    not_looked_for={"overfitting": "the log has no validations"},
)


def other(**changes: object) -> RunSummary:
    values = {"val_loss": 2.5, "examples_hash": "h", "state": "finished", **changes}
    return RunSummary(name="run_1.5", model=None, stage=None, method=None, **values)  # type: ignore[arg-type]


def score(text: str, against: RunSummary | None = None, own: RunSummary = OWN) -> Outcome:
    runs = {"run_1.5": against}
    return score_prediction(parse_prediction(text), own, runs.get)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("val_loss < 2.5", True),
        ("val_loss < 2.0", False),
        ("val_loss <= 2.0", True),
        ("val_loss>=2", True),
        ("val_loss > 2e0", False),
        ("seconds < 61", True),
        ("val_loss < base_val_loss", True),
        ("train_loss > val_loss", False),
        ("no non_finite", True),
        ("no spike", True),
    ],
)
def test_a_prediction_is_scored_by_what_was_measured(text: str, held: bool) -> None:
    outcome = score(text)
    assert outcome.held is held
    assert outcome.measured
    assert outcome.text == text


def test_another_run_is_compared_on_the_same_examples() -> None:
    outcome = score("val_loss < run_1.5.val_loss", other())
    assert outcome.held is True
    assert outcome.measured == "val_loss 2.000, run_1.5.val_loss 2.500"


@pytest.mark.parametrize(
    ("text", "against", "reason"),
    [
        ("val_loss < run_1.5.val_loss", None, "there is no run run_1.5"),
        ("val_loss < run_1.5.val_loss", other(val_loss=None), "run_1.5.val_loss was not measured"),
        ("val_loss < run_1.5.val_loss", other(examples_hash="x"), "different examples"),
        ("val_loss < run_1.5.val_loss", other(examples_hash=None), "not known whether"),
        ("val_loss < run_1.5.val_loss", other(state="running"), "still running"),
        ("val_loss < run_1.5.val_loss", other(val_loss=math.nan), "not a finite number"),
        ("judge > 30", None, "judge was not measured"),
        ("no overfitting", None, "overfitting could not be judged: the log has no validations"),
        ("no instability", None, "lr_too_high was not looked for"),
    ],
)
def test_what_cannot_be_scored_is_unknown_with_the_reason(
    text: str, against: RunSummary | None, reason: str
) -> None:
    outcome = score(text, against)
    assert outcome.held is None
    assert reason in outcome.reason


def test_scores_of_two_judges_settle_nothing() -> None:
    own = RunSummary("own", "finished", None, None, None, judge=30.0, judge_settings="a", step=3)
    alike, unlike = (other(judge=25.0, judge_settings=settings) for settings in "ab")
    assert score("judge > run_1.5.judge", alike, own=own).held is True
    outcome = score("judge > run_1.5.judge", unlike, own=own)
    assert outcome.held is None
    assert "another judge" in outcome.reason


def test_train_loss_needs_no_common_validation() -> None:
    against = other(train_loss=1.6, examples_hash="x")
    assert score("train_loss < run_1.5.train_loss", against).held is True


def test_a_value_that_is_not_finite_settles_nothing() -> None:
    own = RunSummary("own", "stopped", None, None, None, val_loss=math.nan, step=3)
    outcome = score("val_loss < 3", own=own)
    assert outcome.held is None
    assert outcome.measured == "val_loss NaN"


def test_a_found_verdict_breaks_its_absence_and_no_steps_settle_nothing() -> None:
    found = replace(OWN, verdicts=("bad_batch",))
    assert score("no non_finite", own=found).held is True
    assert score("no spike", own=found).held is False
    assert score("no bad_batch", own=replace(OWN, step=None)).held is None
    assert score("no overfitting", own=replace(OWN, effects=("overfitting",))).held is False


def test_what_is_not_confirmed_decides_nothing() -> None:
    amber = score("no spike", own=replace(OWN, verdicts=("bad_batch",), amber=("bad_batch",)))
    assert (amber.held, amber.reason) == (None, "bad_batch is not confirmed")


def test_a_verdict_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(RunFileError, match=r"no such verdict as `overfiting`.*`overfitting`"):
        parse_prediction("no overfiting")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "val_loss",
        "val_loss = 2",
        "accuracy < 2",
        "val_loss < nan",
        "val_loss < inf",
        "val_loss < run_1",
        "val_loss < run_1.speed",
        "val_loss < .val_loss",
        "no",
        "no Non Finite",
        "val_loss < 2 < 3",
    ],
)
def test_what_is_no_prediction_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(RunFileError, match=r"METRIC < NUMBER.*no VERDICT.*base_val_loss"):
        parse_prediction(text)


def test_outcomes_are_counted_in_words() -> None:
    yes, no, unknown = (Outcome("t", held, "", "") for held in (True, False, None))
    assert count_outcomes([]) is None
    assert count_outcomes([yes, yes, no]) == "2 of 3 held"
    assert count_outcomes([yes, unknown]) == "1 of 2 held, 1 unknown"
