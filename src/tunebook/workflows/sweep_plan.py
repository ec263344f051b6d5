"""What a sweep will take, before its first trial: memory for placing trials, time, and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunebook.data.build import Say
from tunebook.errors import PlanRefused, RunFileError
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

    `seconds` and `tokens` are of all `n_runs` of the sweep one after another, None where some were
    not measured; a budget may end it before. `skipped` counts combinations of other work that were
    not planned, and of searches that draw the values of settings. `devices` are those of each plan.
    """

    sweep: Sweep
    plans: tuple[tuple[Mapping[str, Any], Plan], ...]
    skipped: int
    devices: tuple[int, ...] = ()

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

    @property
    def runs(self) -> int:
        """How many runs there will be, as far as can be told, when the budget has ended it."""
        n, budget = self.sweep.n_runs, self.sweep.budget
        fits = [n]
        if budget.hours is not None and self.seconds:
            fits.append(int(budget.hours * 3600 / (self.seconds / n)))
        if budget.tokens is not None and self.tokens:
            fits.append(int(budget.tokens / (self.tokens / n)))
        return min(fits)

    def as_json(self, workers: int | None) -> dict[str, Any]:
        """Give the same as keys, with the lines of `words`."""
        return {
            "trials": self.runs,
            "device": self.device,
            "memory_bytes": max(one.memory.resident_bytes for _, one in self.plans),
            "seconds": self.seconds,
            "tokens": self.tokens,
            "skipped": self.skipped,
            "words": self.words(workers),
        }

    def words(self, workers: int | None) -> list[str]:
        """Say what the sweep will take, a line each."""
        runs, sweep = self.runs, self.sweep
        per_point = f", {sweep.seeds} seeds each" if sweep.seeds > 1 else ""
        known = runs < sweep.n_runs
        bounded = " at most" if not known and (sweep.budget.tokens or sweep.budget.hours) else ""
        trials = f"{'about ' if known else ''}{runs:,} trial{'s'[: runs != 1]}{bounded}"
        lines = [f"{trials} ({sweep.search}{per_point}) on {self.device}"]
        largest = max(one.memory.resident_bytes for _, one in self.plans)
        at_once = "" if workers is None else f", {workers} at once"
        lines.append(f"memory of a trial: {format_bytes(largest)}{at_once}")
        lines += self._time_words(runs)
        if known:
            spent = [
                *([f"{sweep.budget.hours:g} h"] if sweep.budget.hours is not None else []),
                *([f"{sweep.budget.tokens:,} tokens"] if sweep.budget.tokens is not None else []),
            ]
            ends = f"end after about {runs:,} trials" if runs else "end before the first trial"
            lines.append(f"budget: {' and '.join(spent)} {ends}")
        return [*lines, *self._skipped_words()]

    def _time_words(self, runs: int) -> list[str]:
        """Say what so many runs take and cost."""
        sweep = self.sweep
        if self.seconds is None:
            return ["time: not measured here"]
        alone = self.seconds / sweep.n_runs
        lines = [
            f"time: about {format_seconds(alone * runs)}, {format_seconds(alone)} a trial, one "
            "after another"
        ]
        if sweep.price_per_hour is not None:
            devices = self.devices or (1,) * len(self.plans)
            # Every device of a trial is paid for while it runs.
            paid = [
                (p.time.seconds or 0) * n for (_, p), n in zip(self.plans, devices, strict=True)
            ]
            cost = sum(paid) / len(paid) * runs / 3600 * sweep.price_per_hour
            each = "" if max(devices) == 1 else f" a device, up to {max(devices)} of them a trial"
            lines.append(f"cost: about {cost:,.2f} at {sweep.price_per_hour:g} an hour{each}")
        return lines

    def _skipped_words(self) -> list[str]:
        if self.sweep.search not in LISTED:
            if len(self.plans) == 1:
                return []
            left = f"; {self.skipped} more values were not planned" if self.skipped else ""
            return [
                f"planned: {len(self.plans)} settings, each alone and the largest together; trials "
                f"are taken to be like their mean, and to need as much memory as the largest{left}"
            ]
        if self.skipped:
            return [
                f"{len(self.plans)} of {len(self.plans) + self.skipped} combinations of different "
                "work were planned, the others taken to be like the mean, and to need as much "
                "memory as the largest"
            ]
        return []


def _mean_times(known: Sequence[float | None], n: int) -> float | None:
    if any(one is None for one in known):
        return None
    return sum(one or 0 for one in known) / len(known) * n


def plan_sweep(sweep: Sweep, run: str | Path, book: Path, say: Say) -> SweepPlan:
    """Plan the combinations that differ in their work, at most eight of them.

    Where values are drawn these are each listed value and end of a range alone over the run file,
    and the largest of all together where that is a run file. Raises PlanRefused where one could not
    be trained, with its settings.
    """
    drawn = sweep.search not in LISTED
    chosen, skipped = _values_alone(sweep) if drawn else _combinations(sweep)
    made = [(point, *_plan_one(sweep, point, run, book, say)) for point in chosen]
    if drawn and (corner := _corner(sweep, [(point, one) for point, one, _ in made])):
        with suppress(RunFileError):  # not every value goes with every other
            made.append((corner, *_plan_one(sweep, corner, run, book, say)))
    plans = tuple((point, one) for point, one, _ in made)
    return SweepPlan(sweep, plans, skipped, tuple(devices for _, _, devices in made))


def _plan_one(
    sweep: Sweep, point: Mapping[str, Any], run: str | Path, book: Path, say: Say
) -> tuple[Plan, int]:
    """Plan one combination; gives its devices too. RunFileError where it is no run file."""
    # Named after no run that there is.
    asked = recipe_to_plan(run, [*overrides_of(point), f"name={sweep.name}-plan"], book=book)
    made = plan(asked, say=say)
    if made.refusals:
        raise PlanRefused(
            f"sweep {sweep.name}, the trial with {' '.join(overrides_of(point))}: "
            f"{refusal_reason(sweep.name, made.refusals, made.faults)}"
        )
    return made, asked.recipe.devices


def _combinations(sweep: Sweep) -> tuple[list[Mapping[str, Any]], int]:
    """Choose among a grid's combinations of different work, and count those left out."""
    points = sweep.grid(sweep.n_points)
    by_work = {_key(_work_of(point)): point for point in reversed(points)}
    different = list(reversed(by_work.values()))
    step = max(1, -(-len(different) // _MOST_PLANNED))
    chosen: list[Mapping[str, Any]] = list(different[::step])
    # Trials are placed by the largest, which need not be the last of the file.
    largest = max(different, key=lambda point: _size(sweep, point))
    if largest not in chosen:
        chosen[-1] = largest
    return chosen, len(different) - len(chosen)


def _size(sweep: Sweep, point: Mapping[str, Any]) -> float:
    """Say how far up its numbers are among those of the file, over all settings of its work."""
    size = 0.0
    for key, value in _work_of(point).items():
        values = sweep.over.get(key)
        if isinstance(values, list) and _numbers(values):
            size += sorted(values).index(value) / len(values)
    return size


def _values_alone(sweep: Sweep) -> tuple[list[Mapping[str, Any]], int]:
    """List the values of settings that change the work one by one, and count those left out.

    The largest and smallest of every setting come first. With no such setting any one will do.
    """
    stated = {key: _ends_first(values) for key, values in _work_of(sweep.over).items()}
    if not stated:
        return [{key: _ends_first(values)[-1] for key, values in sweep.over.items()}], 0
    most = max(len(values) for values in stated.values())
    alone: list[Mapping[str, Any]] = [
        {key: values[i]} for i in range(most) for key, values in stated.items() if i < len(values)
    ]
    room = _MOST_PLANNED - (len(stated) > 1)  # of all together
    return alone[:room], len(alone[room:])


def _corner(
    sweep: Sweep, planned: Sequence[tuple[Mapping[str, Any], Plan]]
) -> dict[str, Any] | None:
    """Give the largest value of every setting: of numbers that, of others what took most memory."""
    works = _work_of(sweep.over)
    if len(works) < 2:
        return None
    found: dict[str, Any] = {}
    for key, values in works.items():
        stated = _ends_first(values)
        if not _numbers(stated):
            taken = [(p[key], one.memory.resident_bytes) for p, one in planned if key in p]
            stated = [max(taken, key=lambda pair: pair[1])[0]] if taken else stated
        found[key] = stated[0]
    return found


def _ends_first(values: list[Any] | Range) -> list[Any]:
    """List numbers from the largest, the smallest, and then the others; anything else as it is."""
    if isinstance(values, Range):
        return [values.high, values.low]
    if not _numbers(values):
        return list(values)
    ordered = sorted(values, reverse=True)
    return [ordered[0], *ordered[1:][::-1]]


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _work_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in _SAME_WORK}


def _key(work: Mapping[str, Any]) -> str:
    return " ".join(overrides_of(work))
