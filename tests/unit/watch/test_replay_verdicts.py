"""What is changed in a replay, and what its trials say of the cause."""

from __future__ import annotations

import math
from dataclasses import replace

from made_runs import make_step
from tunebook.records import ExampleLoss, StepRecord
from tunebook.trials import Trial
from tunebook.watch.changes import Before, Change, changes_to_try
from tunebook.watch.replay import Course, Spike, judge_trial, name_cause
from tunebook.watch.run_log import RunFacts, RunLog

ROWS = {"rows#7": "text of seven", "rows#8": "text of eight"}
SPIKE = Spike(step=50, last_step=52, level=2.0, scale=0.05)


def log_of(rates: list[float], clipped: bool = False, **facts: object) -> RunLog:
    steps = [
        replace(make_step(number), learning_rate=rate, clipped=clipped, grad_norm=1.5)
        for number, rate in enumerate(rates, start=1)
    ]
    return RunLog(steps, (), RunFacts(**facts))  # type: ignore[arg-type]


def names(log: RunLog, step: int, before: Before | None = None) -> dict[str, Change]:
    found, left_out = changes_to_try(log, step, before or Before(1, dropout=False))
    assert not {change.name for change in found} & left_out.keys()
    return {change.name: change for change in found}


def test_a_rate_that_was_as_high_before_is_no_candidate() -> None:
    steady = names(log_of([1e-3] * 60), 50)
    assert "lower rate" not in steady
    assert steady["rate / 10"].kind == "lr_too_high"
    assert not steady["rate / 10"].new


def test_a_rate_in_its_warm_up_is_halved_and_one_that_jumped_is_taken_back() -> None:
    warm = names(log_of([n * 1e-4 for n in range(1, 61)], warmup_steps=60), 50)["lower rate"]
    assert (warm.kind, warm.first_step, warm.rate_at_most) == ("peak_lr", 34, 2.5e-3)
    jumped = names(log_of([1e-3] * 45 + [3e-3] * 15, warmup_steps=5), 50)["lower rate"]
    assert (jumped.kind, jumped.rate_at_most) == ("lr_jump", 1e-3)


def test_clipping_goes_back_to_what_it_was_before_a_fork_and_else_only_calms() -> None:
    forked = Before(46, dropout=False, fork=45, clip=0.5)
    switched = names(log_of([1e-3] * 60, max_grad_norm=0.0), 50, forked)["clipping"]
    assert (switched.kind, switched.max_grad_norm, switched.first_step) == ("clip_switch", 0.5, 46)
    free = names(log_of([1e-3] * 60, max_grad_norm=0.0), 50)["clipping"]
    assert (free.new, free.max_grad_norm) == (False, 1.5)
    assert "clipping" not in names(log_of([1e-3] * 60, max_grad_norm=9.0), 50)
    assert names(log_of([1e-3] * 60, clipped=True, max_grad_norm=1.0), 50)["clipping"].new is False


def test_only_one_example_far_beyond_the_others_is_replaced_alone() -> None:
    def step(number: int, *losses: float) -> StepRecord:
        examples = tuple(ExampleLoss(f"rows#{i}", loss, 1) for i, loss in enumerate(losses))
        return replace(make_step(number), examples=examples)

    quiet = [step(n, 2.0, 2.1, 1.9, 2.0) for n in range(1, 10)]
    one = names(RunLog([*quiet, step(10, 2.0, 9.0, 2.0, 2.0)]), 10)
    assert one["other example"].example == "rows#1"
    assert "other example" not in names(RunLog([*quiet, step(10, 9.0, 9.0, 9.0, 9.0)]), 10)


def trial(name: str, height: float, new: bool, removed: bool) -> Trial:
    return Trial(name, f"with {name}", 50, new, (2.0,), (1.0,), height, removed)


def verdict_of(*trials: Trial) -> tuple[str, str]:
    kinds = {"lower rate": "peak_lr", "rate / 10": "lr_too_high", "other example": "bad_example"}
    changes = {
        t.name: Change(t.name, t.change, 50, t.new, kind=kinds.get(t.name, "spike_isolated"))
        for t in trials
    }
    found = name_cause(
        SPIKE, "canary", [trial("control", 2.0, False, False), *trials], changes, ROWS
    )
    return found.kind, found.confidence


def test_the_single_change_that_removes_a_spike_is_its_cause() -> None:
    rows, calmer = trial("other rows", 0.1, True, True), trial("rate / 10", 0.0, False, True)
    stays = trial("other rows", 1.9, True, False)
    lower = trial("lower rate", 0.0, True, True)
    assert verdict_of(rows, calmer) == ("bad_batch", "certain")
    assert verdict_of(rows, trial("other example", 0.1, True, True)) == ("bad_example", "certain")
    assert verdict_of(stays, lower, calmer) == ("peak_lr", "certain")
    assert verdict_of(stays, calmer) == ("lr_too_high", "certain")
    assert verdict_of(rows, lower, calmer) == ("spike_isolated", "undecided")
    assert verdict_of(stays) == ("spike_isolated", "undecided")


def test_a_loss_that_is_no_number_is_a_spike_that_only_a_finite_one_can_remove() -> None:
    def course(after: float) -> Course:
        canary = dict.fromkeys(range(34, 50), 1.0) | {50: after, 51: after, 52: after}
        return Course(dict.fromkeys(range(34, 53), 2.0), canary)

    change = Change("other rows", "", 50, True)
    broken = course(math.nan)
    assert SPIKE.measure(broken) == "canary"
    assert judge_trial(SPIKE, "canary", broken, change, course(1.1)).removed
    assert not judge_trial(SPIKE, "canary", broken, change, course(4.0)).removed
    assert not judge_trial(SPIKE, "canary", broken, change, broken).removed
    assert SPIKE.measure(course(1.0)) is None
