"""What a run was planned to need, beside what it came to: `plan.json`, read without torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tunebook.book.atomic import write_atomically
from tunebook.book.codec import dump_json
from tunebook.book.inside import read_inside
from tunebook.book.places import RunFolder

_PEAKS = (
    "train_peak_bytes",
    "longest_batch_bytes",
    "evaluation_peak_bytes",
    "generation_peak_bytes",
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of a plan, in bytes or seconds; None is not known or not measured."""

    planned: float | None
    measured: float | None

    @property
    def error(self) -> float | None:
        """(planned - measured) / measured: below 0, the run needed more than was planned."""
        if self.planned is None or not self.measured:
            return None
        return self.planned / self.measured - 1


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run whose plan can be held against what was measured."""

    name: str
    model: str
    method: str
    device: str
    figures: Mapping[str, Comparison]


@dataclass(frozen=True, slots=True)
class Errors:
    """How far plans were off: the median of absolute errors, and the largest with its sign."""

    n_runs: int
    median: float
    worst: float
    worst_run: str


def read_plan(run: RunFolder) -> dict[str, Any]:
    """Read `plan.json`; empty when there is none, or it is broken."""
    try:
        found = orjson.loads(read_inside(run.book, run.plan_json))
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def write_plan(run: RunFolder, plan: Mapping[str, Any]) -> None:
    """Write `plan.json`; StorageError when it cannot be."""
    write_atomically(run.plan_json, dump_json(plan, indent=True))


def compare_plan(plan: Mapping[str, Any]) -> dict[str, Comparison]:
    """Put what was planned beside what was measured, by name.

    `peak_bytes` is what the device's allocator held at most in any of training, evaluation and
    generation, `resident_bytes` the same with what tensors do not show.
    """
    memory, disk, measured = (_mapping(plan.get(key)) for key in ("memory", "disk", "measured"))
    peaks = [peak for key in _PEAKS if (peak := _number(memory.get(key))) is not None]
    planned = {
        "peak_bytes": (max(peaks, default=None), "train_peak_bytes"),
        "resident_bytes": (_number(memory.get("resident_bytes")), "resident_peak_bytes"),
        "seconds": (_number(plan.get("seconds")), "seconds"),
        "disk_bytes": (_number(disk.get("needed_bytes")), "disk_bytes"),
    }
    return {
        name: Comparison(value, _number(measured.get(key)))
        for name, (value, key) in planned.items()
    }


def planned_runs(runs: Sequence[RunFolder]) -> Iterator[PlannedRun]:
    """Give the runs whose plan has something measured beside it."""
    for run in runs:
        plan = read_plan(run)
        figures = compare_plan(plan)
        if any(figure.error is not None for figure in figures.values()):
            model, method, device = (str(plan.get(k) or "") for k in ("model", "method", "device"))
            yield PlannedRun(run.name, model, method, device, figures)


def sum_up_errors(runs: Sequence[PlannedRun]) -> dict[str, Errors]:
    """Sum up by figure how far the plans were off; a figure nothing is known of is left out."""
    summed = {}
    for name in {name: None for run in runs for name in run.figures}:
        errors = {run.name: error for run in runs if (error := run.figures[name].error) is not None}
        if errors:
            worst = max(errors, key=lambda run: abs(errors[run]))
            median = statistics.median(map(abs, errors.values()))
            summed[name] = Errors(len(errors), median, errors[worst], worst)
    return summed


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number else None  # type: ignore[return-value]
