"""What a sweep will take, before its first trial: memory for placing trials, time, and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunebook.data.build import Say
from tunebook.errors import PlanRefused
from tunebook.plan.result import Plan, refusal_reason
from tunebook.recipe.sweep import LISTED, Range, Sweep, overrides_of
from tunebook.units import format_bytes, format_seconds
from tunebook.workflows.plan import plan
from tunebook.workflows.sweep_queue import Need
from tunebook.workflows.to_plan import recipe_to_plan

# Settings that change neither what a step does nor how many there are.
_SAME_WORK = (
    "seed", "lora.alpha", "lora.dropout", "train.learning_rate", "train.min_lr", "train.schedule",
    "train.warmup_steps", "train.warmup_fraction", "train.weight_decay", "train.betas",
    "train.momentum", "train.max_grad_norm",
)  # fmt: skip
_MOST_PLANNED = 8


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """Plans of combinations that differ in their work, and what all trials come to.

    `seconds` and `tokens` are of all trials one after another, None where some were not measured.
    `skipped` counts combinations of other work that were not planned.
    """

    sweep: Sweep
    plans: tuple[tuple[Mapping[str, Any], Plan], ...]
    skipped: int

    @property
    def device(self) -> str:
        """The device that the trials are planned for."""
        return self.plans[0][1].device

    @property
    def card_bytes(self) -> int | None:
        """The memory of one card, None where trials run on a processor."""
        if self.device.partition(":")[0] in ("cpu", "mps"):
            return None
        return self.plans[0][1].memory.device_bytes or 1

    @property
    def seconds(self) -> float | None:
        """Seconds of all trials together, at the mean of those that were planned."""
        known = [one.time.seconds for _, one in self.plans]
        return _mean_times(known, self.sweep.n_runs)

    @property
    def tokens(self) -> float | None:
        """Trained tokens of all trials together."""
        return _mean_times([one.tokens for _, one in self.plans], self.sweep.n_runs)

    def need_of(self, settings: Mapping[str, Any], devices: int) -> Need:
        """Give what a trial takes: as planned of its like, else as the largest that was."""
        work = _work_of(settings)
        like = [one for known, one in self.plans if _work_of(known) == work]
        found = like or [one for _, one in self.plans]
        return Need(max(one.memory.resident_bytes for one in found), devices)

    def words(self, workers: int | None) -> list[str]:
        """Say what the sweep will take, a line each."""
        runs, sweep = self.sweep.n_runs, self.sweep
        per_point = f", {sweep.seeds} seeds each" if sweep.seeds > 1 else ""
        bounded = " at most" if sweep.budget.tokens or sweep.budget.hours else ""
        trials = f"{runs:,} trial{'s'[: runs != 1]}{bounded}"
        lines = [f"{trials} ({sweep.search}{per_point}) on {self.device}"]
        largest = max(one.memory.resident_bytes for _, one in self.plans)
        at_once = "" if workers is None else f", {workers} at once"
        lines.append(f"memory of a trial: {format_bytes(largest)}{at_once}")
        if self.seconds is None:
            lines.append("time: not measured here")
        else:
            alone = self.seconds / runs
            lines.append(
                f"time: about {format_seconds(self.seconds)}, {format_seconds(alone)} a trial, one "
                "after another"
            )
            if sweep.price_per_hour is not None:
                cost = self.seconds / 3600 * sweep.price_per_hour
                lines.append(f"cost: about {cost:,.2f} at {sweep.price_per_hour:g} an hour")
            hours = sweep.budget.hours
            if hours is not None and self.seconds > hours * 3600:
                fits = int(hours * 3600 / alone)
                lines.append(f"budget: {hours:g} h end after about {fits:,} trials")
        if self.tokens is not None and sweep.budget.tokens is not None:
            fits = int(sweep.budget.tokens / (self.tokens / runs))
            if fits < runs:
                lines.append(f"budget: its tokens end after about {fits:,} trials")
        if self.skipped:
            lines.append(
                f"{len(self.plans)} of {len(self.plans) + self.skipped} combinations of different "
                "work were planned, the others taken to be like the mean, and to need as much "
                "memory as the largest"
            )
        return lines


def _mean_times(known: Sequence[float | None], n: int) -> float | None:
    if any(one is None for one in known):
        return None
    return sum(one or 0 for one in known) / len(known) * n


def plan_sweep(sweep: Sweep, run: str | Path, book: Path, say: Say) -> SweepPlan:
    """Plan the combinations that differ in their work, at most eight of them.

    Raises PlanRefused where one could not be trained, with its settings.
    """
    points = _points(sweep)
    by_work = {_key(_work_of(point)): point for point in reversed(points)}
    different = list(reversed(by_work.values()))
    step = max(1, -(-len(different) // _MOST_PLANNED))
    chosen = different[::step]
    if different[-1] not in chosen:
        chosen[-1] = different[-1]
    plans = []
    for point in chosen:
        asked = recipe_to_plan(run, [*overrides_of(point), _quiet_name(sweep)], book=book)
        made = plan(asked, say=say)
        if made.refusals:
            settings = " ".join(overrides_of(point))
            raise PlanRefused(
                f"sweep {sweep.name}, the trial with {settings}: "
                f"{refusal_reason(sweep.name, made.refusals, made.faults)}"
            )
        plans.append((point, made))
    return SweepPlan(sweep, tuple(plans), len(different) - len(chosen))


def _quiet_name(sweep: Sweep) -> str:
    """Name the planned run after no run that there is."""
    return f"name={sweep.name}-plan"


def _points(sweep: Sweep) -> list[dict[str, Any]]:
    """List a grid's combinations; of ranges, their two ends."""
    if sweep.search in LISTED:
        return sweep.grid()[: sweep.n_points]
    ends = ((0, "low"), (-1, "high"))
    return [
        {
            key: getattr(values, end) if isinstance(values, Range) else values[place]
            for key, values in sweep.over.items()
        }
        for place, end in ends
    ]


def _work_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in _SAME_WORK}


def _key(work: Mapping[str, Any]) -> str:
    return " ".join(overrides_of(work))
