"""What is said of evaluation that takes too long, and whether its way out is one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tunebook.plan.checks.evaluation_dominates import check
from tunebook.plan.clock import times_due
from tunebook.plan.devices import Device
from tunebook.plan.subject import Subject
from tunebook.recipe.tree import Recipe
from tunebook.step.horizon import Horizon

HORIZON = Horizon(4000, 1000, 4000, 4, 4)


def subject(every: Any, **seconds: float) -> Subject:
    recipe = Recipe(
        name="a",
        model="tunebook/tiny",
        data=[{"path": "rows.jsonl"}],
        evaluate={"every": every},
    )
    device = Device("CPU", "cpu", None, None, True, False, {}, True)
    return Subject(recipe, {}, device, "fp32", horizon=HORIZON, seconds=seconds)


@pytest.mark.parametrize("every", ["10%", 1, "2.5%"])
def test_the_way_out_is_how_often_evaluation_fits(every: Any) -> None:
    each, times = 200.0, 1 + times_due(HORIZON, every)
    (found,) = check(subject(every, training=6000.0, evaluation=times * each, canary=0.0))
    named = re.search(r"evaluate\.every: (\d+%)", found.way_out)
    assert named is not None
    assert named[1] != every
    seconds = (1 + times_due(HORIZON, named[1])) * each
    assert seconds <= 0.2 * (6000 + seconds)


def test_a_canary_that_takes_the_time_is_named() -> None:
    (found,) = check(subject("10%", training=1000.0, evaluation=600.0, canary=500.0))
    assert "canary" in found.message
    assert found.way_out == "set evaluate.canary: 0"


def test_less_than_a_minute_is_never_too_much() -> None:
    assert not list(check(subject(1, training=1.0, evaluation=59.0, canary=0.0)))
