"""What is said of a run's speed: the sentence is made of the numbers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made_runs import make_run, make_step
from tunebook.book.events import EventWriter, read_events
from tunebook.book.reader import RunReader
from tunebook.book.step_totals import Pace, StepProfile, pace_of_records
from tunebook.pages.speed import (
    Speed,
    measure_speed,
    profiled_steps,
    speed_line,
    speed_of_look,
    speed_of_run,
    write_speed,
)

FACTS = {
    "operations": {"token": 1e6, "target_token": 5e5},
    "matrix_product_flops": 2.5e9,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "effective_batch_size": 8,
    "precision": "fp32",
    "device": "cuda",
    "profiled": True,
}
PHASES = {"data_seconds": 0.5, "pass_seconds": 8.0, "canary_seconds": 0.5}
PACE = Pace(10, 10.0, 12000.0, 6000.0, PHASES)


def speed_with(groups: dict[str, float], flops: float | None = None, **facts: Any) -> Speed:
    ordered = dict(sorted(groups.items(), key=lambda item: -item[1]))
    largest = {"aten::mul": 0.2, "aten::gelu": 0.1}
    profile = StepProfile(3, 1.0, ordered, largest, flops)
    return measure_speed(PACE, FACTS | facts, [profile])


def test_the_share_is_operations_over_seconds_over_the_ceiling() -> None:
    speed = speed_with({"matrix products": 0.74, "moving memory": 0.26}, flops=1.5e9)
    assert speed.target_tokens_per_second == 600
    assert speed.share == pytest.approx((1e6 * 1200 + 5e5 * 600) / 2.5e9)
    assert speed.mfu is None
    assert speed_with({"attention": 1.0}, peak_flops=1e10).mfu == pytest.approx(0.15)
    assert speed_line(speed) == (
        "600 target tokens/s of 1,200 tokens/s, 60 % of what matrix products reach here, bound by "
        "matrix products: 74 % of a step, at 81 % of the speed that this device reaches in them"
    )


@pytest.mark.parametrize(
    ("groups", "facts", "says", "way_out"),
    [
        (
            {"moving memory": 0.61, "matrix products": 0.22, "attention": 0.17},
            {},
            "bound by moving memory: 61 % of a step (mul, gelu), matrix products 22 %",
            "larger micro-batches (train.micro_batch_size, now 2)",
        ),
        (
            {"Python and launching": 0.6, "matrix products": 0.4},
            {"gradient_accumulation_steps": 1},
            "bound by Python and launching: 60 % of a step",
            "more rows per step (train.effective_batch_size, now 8)",
        ),
        ({"reading rows": 0.9, "moving memory": 0.1}, {}, "bound by reading rows", "faster disk"),
        ({"optimizer": 0.6, "matrix products": 0.4}, {}, "bound by optimizer", "method: lora"),
        ({"communication": 0.9, "attention": 0.1}, {}, "bound by communication", "fewer devices"),
    ],
)
def test_each_bound_is_named_with_its_way_out(
    groups: dict[str, float], facts: dict[str, Any], says: str, way_out: str
) -> None:
    speed = speed_with(groups, **facts)
    assert speed.bound.startswith(says)
    assert way_out in speed.ways_out[0]


def test_what_takes_the_time_beside_steps_is_named() -> None:
    speed = measure_speed(PACE, FACTS, [], {"evaluation": 5.0, "checkpoints": 1.0})
    assert speed.beside == {"evaluation": 5 / 16, "checkpoints": 1 / 16}
    assert speed.ways_out == ("evaluation takes 31 % of the run's time: evaluate.every",)


def test_without_a_profile_phases_are_told_and_nothing_is_guessed() -> None:
    bound = measure_speed(PACE, {"profiled": False}).bound
    assert bound == (
        "what bounds it was not measured: the run is short (forward and backward 80 %, update "
        "10 %, canary 5 %, reading rows 5 % of a step)"
    )


def test_a_log_of_old_has_tokens_and_no_phases(book: Path) -> None:
    events = read_events(make_run(book, "run_1"))
    speed = speed_of_run(pace_of_records(events.steps), events)
    assert (speed.phases, speed.share, speed.bound) == ({}, None, "")
    assert speed_line(speed) == "20 target tokens/s of 40 tokens/s"
    assert write_speed(speed) == ""
    assert speed_line(measure_speed(Pace(), {})) == ""


def test_the_step_that_was_looked_at_is_in_no_rate_however_steps_are_read(book: Path) -> None:
    run = make_run(book, "run_1", steps=0)
    profile = StepProfile(3, 5.0, {"matrix products": 4.0, "attention": 1.0}, {}, None)
    with EventWriter(run, 2) as writer:
        for step in range(1, 6):
            slow = 5.0 if step == 3 else 0.5
            times = {"data_seconds": 0.1, "pass_seconds": 0.3, "canary_seconds": 0.0}
            writer.write("step", replace(make_step(step), seconds=slow, **times))
        writer.write("profile", profile)
    events = read_events(run)
    speed = speed_of_run(pace_of_records(events.steps, profiled_steps(events)), events)
    assert speed.tokens_per_second == pytest.approx(40)
    assert speed.phases["update"] == pytest.approx(0.2)
    assert speed.groups == {"matrix products": 0.8, "attention": 0.2}
    of_columns = speed_of_look(RunReader(run).look())
    assert of_columns.phases == pytest.approx(speed.phases)
    assert speed_line(of_columns) == speed_line(speed)
