"""Rules of other tools, as the fault benchmark runs them (benchmarks/faults/rivals.py)."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "faults"))

import rivals
from speed import healthy_log

from tunebook.watch.run_log import RunLog


@pytest.fixture(scope="module")
def calm():
    return healthy_log(300, seed=3)


def _hurt(log, first, last):
    """Make the losses of steps first to last six times what they were, and their norms."""
    steps = [
        replace(s, loss=6 * s.loss, grad_norm=9 * s.grad_norm) if first <= s.step <= last else s
        for s in log.steps
    ]
    return RunLog(steps, log.validations, log.facts)


@pytest.mark.parametrize(
    ("rule", "setting", "first_alarm"),
    [
        (rivals.loss_watchdog, 2.0, 152),  # three in a row
        (rivals.stability_monitor, 6.0, 150),
        (rivals.skip_step, 6.0, 150),
        (rivals.kill_loss_spike, 2.0, 154),  # five in a row
    ],
)
def test_rule_is_silent_on_a_calm_run_and_alarms_at_losses_that_stay_high(
    calm, rule, setting, first_alarm
):
    assert rule(calm, setting) == []
    assert rule(_hurt(calm, 150, 170), setting)[0].step == first_alarm


def test_windows_of_128_steps_do_not_see_what_comes_before_they_are_full(calm):
    early = _hurt(calm, 60, 63)
    assert all(alarm.step > 128 for alarm in rivals.stability_monitor(early, 6.0))
    assert [alarm.step for alarm in rivals.skip_step(_hurt(calm, 64, 64), 6.0)] == [64]


def test_early_stopping_of_transformers_counts_validations_that_are_no_best(calm):
    losses = {0: 9.0, 50: 3.0, 100: 2.0, 150: 2.1, 200: 2.2, 250: 1.9}
    first = calm.validations[0]
    log = RunLog(calm.steps, [replace(first, step=k, loss=v) for k, v in losses.items()])
    assert [alarm.step for alarm in rivals.early_stopping(log, 1)] == [150, 200]
    assert [alarm.step for alarm in rivals.early_stopping(log, 2)] == [200]
    assert rivals.early_stopping(log, 3) == []
