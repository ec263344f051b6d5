"""Which combinations of a sweep are planned, and what is said of them; plans are by a formula."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunebook.errors import PlanRefused, RunFileError
from tunebook.recipe.sweep import Sweep
from tunebook.records import Finding
from tunebook.workflows import sweep_plan
from tunebook.workflows.sweep_plan import SweepPlan, plan_sweep

MIB = 2**20


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Plan by a formula instead of a model; gives the settings of every plan that was made."""
    asked: list[dict[str, str]] = []

    def resolve(run: Any, overrides: list[str], *, book: Path) -> Any:
        settings = dict(one.split("=", 1) for one in overrides)
        settings.pop("name")
        if settings.get("method") == '"full"' and "lora.rank" in settings:
            raise RunFileError("lora.rank without lora")
        return SimpleNamespace(
            recipe=SimpleNamespace(devices=int(settings.get("devices", 2))), s=settings
        )

    def plan(one: Any, *, say: Callable[[str], None]) -> Any:
        asked.append(one.s)
        rank, batch = (int(one.s.get(k, 8)) for k in ("lora.rank", "train.micro_batch_size"))
        n_bytes = (100 + rank * batch) * MIB
        finding = Finding("does_not_fit", "refuse", "too large", {}, "a smaller one")
        return SimpleNamespace(
            device="cpu",
            memory=SimpleNamespace(resident_bytes=n_bytes, device_bytes=None),
            time=SimpleNamespace(seconds=rank * 1.0),
            tokens=1000,
            refusals=(finding,) if rank * batch > 10**5 else (),
            faults=(),
        )

    monkeypatch.setattr(sweep_plan, "recipe_to_plan", resolve)
    monkeypatch.setattr(sweep_plan, "plan", plan)
    return asked


def made(over: dict[str, Any], search: str = "random", **changes: Any) -> SweepPlan:
    values = {"name": "s", "run": "r", "search": search, "over": over, **changes}
    return plan_sweep(Sweep.model_validate(values), "r", Path(), lambda _: None)


def needs(found: SweepPlan) -> float:
    return found.need_of({"lora.rank": 512, "train.learning_rate": 0.1}, 1).n_bytes / MIB


@pytest.mark.parametrize("search", ["grid", "random", "tpe"])
def test_a_trial_is_placed_by_the_largest_value_wherever_the_list_has_it(
    planned: list[dict[str, str]], search: str
) -> None:
    found = made({"lora.rank": [4, 1024, 8], "train.learning_rate": [1e-4, 1e-3]}, search)
    assert needs(found) == 100 + 1024 * 8
    assert {one["lora.rank"] for one in planned} == {"4", "8", "1024"}
    assert found.need_of({"lora.rank": 4}, 1).n_bytes == (100 + 32) * MIB


def test_values_are_planned_one_at_a_time_and_the_largest_together(
    planned: list[dict[str, str]],
) -> None:
    over = {"lora.rank": {"low": 4, "high": 64}, "train.micro_batch_size": [16, 2]}
    found = made(over)
    assert planned == [
        {"lora.rank": "64"},
        {"train.micro_batch_size": "16"},
        {"lora.rank": "4"},
        {"train.micro_batch_size": "2"},
        {"lora.rank": "64", "train.micro_batch_size": "16"},
    ]
    assert needs(found) == 100 + 64 * 16
    assert found.skipped == 0
    assert any("planned: 5 settings" in line for line in found.words(None))


def test_what_is_refused_only_together_refuses_the_sweep(planned: list[dict[str, str]]) -> None:
    with pytest.raises(PlanRefused, match=r"lora.rank=1024 train.micro_batch_size=128.*too large"):
        made({"lora.rank": [8, 1024], "train.micro_batch_size": [128, 1]})


def test_the_largest_together_is_left_out_where_it_is_no_run_file(
    planned: list[dict[str, str]],
) -> None:
    found = made({"method": ["full", "lora"], "lora.rank": [4, 8]})
    assert len(planned) == len(found.plans) == 4


def test_at_most_eight_are_planned_and_the_others_are_counted(
    planned: list[dict[str, str]],
) -> None:
    over = {"lora.rank": list(range(1, 31)), "train.micro_batch_size": [1, 2, 3]}
    found = made(over)
    assert len(planned) == 8
    assert found.skipped == 33 - 7
    assert any("26 more values were not planned" in line for line in found.words(None))
    planned.clear()
    grid = made({**over, "lora.rank": [*range(30, 0, -1)]}, "grid")
    assert len(planned) == 8
    assert needs(grid) == 100 + 30 * 3


def test_a_price_is_of_every_device_of_a_trial(planned: list[dict[str, str]]) -> None:
    over = {"train.learning_rate": [1e-4, 1e-3]}
    two = made(over, "grid", price_per_hour=9)
    # Two trials of 8 s on two devices each.
    assert any("cost: about 0.08 at 9 an hour a device, up to 2" in one for one in two.words(None))


@pytest.mark.parametrize("budget", [{"hours": 0.03}, {"tokens": 13_900}])
def test_time_and_cost_end_where_the_budget_does(
    planned: list[dict[str, str]], budget: dict[str, Any]
) -> None:
    rates = {"low": 1e-5, "high": 1e-2, "log": True}
    found = made({"train.learning_rate": rates}, price_per_hour=9, budget=budget)
    lines = found.words(None)
    assert lines[0] == "about 13 trials (random) on cpu"
    assert "time: about 1 min 44 s, 8.0 s a trial, one after another" in lines
    assert any("cost: about 0.52" in line for line in lines)
    assert lines[-1].endswith("end after about 13 trials")
    # What goes on with it divides by all that might be.
    assert found.seconds == 8.0 * found.sweep.n_runs


def test_a_budget_of_trials_bounds_time_and_a_budget_below_one_trial_says_so(
    planned: list[dict[str, str]],
) -> None:
    over = {"train.learning_rate": [1e-4, 1e-3, 1e-2]}
    lines = made(over, "grid", budget={"trials": 2}).words(None)
    assert lines[0] == "2 trials (grid) on cpu"
    assert "time: about 16.0 s, 8.0 s a trial, one after another" in lines
    lines = made(over, "grid", budget={"hours": 0.001}).words(None)
    assert lines[-1] == "budget: 0.001 h end before the first trial"


def test_four_of_a_hundred_million_combinations_are_planned(planned: list[dict[str, str]]) -> None:
    over = {f"data.0.{key}": list(range(1, 41)) for key in "abcde"}
    found = made(over, "grid", budget={"trials": 4})
    assert len(found.plans) == len(planned) == 4
