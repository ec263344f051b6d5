"""Runs as lines over the settings in which they differ, and which of these go with the result."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from tunebook.book.liveness import ENDED
from tunebook.pages.table import HIGHER_IS_BETTER, cell_text, column_value, number_of
from tunebook.records import RunSummary
from tunebook.statistics.importance import (
    FEWEST_RUNS,
    Importance,
    rank_importance,
    share_importance,
)
from tunebook.units import format_number

RESULTS = (
    "val_loss", "best_val_loss", "perplexity", "bits_per_byte", "train_loss", "judge", "seconds",
    "peak_memory_bytes",
)  # fmt: skip
"""What runs may be drawn by; a judge's score is better when it is higher."""

_OWN = ("notebook.", "name", "extends", "accept", "report_to")
# A number in name only: nobody expects more of it to be better.
_NAMES = ("seed",)
_LOGARITHMIC = 20.0
_MOST_TICKS = 7

TOP, BOTTOM, LEFT = 46.0, 396.0, 92.0
"""Where axes are drawn, in pixels."""

_WIDTH, _NEAREST, _FARTHEST = 1180.0, 138.0, 250.0

_CLOSEST = 15.0
CLASSES = 5


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis; `filter` keeps the runs that have exactly this value."""

    y: float
    text: str
    filter: str | None


@dataclass(frozen=True, slots=True)
class SettingAxis:
    """A setting, or the result (`key` as in `RESULTS`), at `x`; scale is linear, log or words."""

    key: str
    x: float
    scale: str
    ticks: tuple[Tick, ...]
    places: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Course:
    """The line of one run; `grade` 0 is the best fifth."""

    run: RunSummary
    points: str
    grade: int
    result: float
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Runs that can be drawn, worst first, with their axes and what goes with the result.

    `varying` are all settings that differ, `together` groups of those that always changed at once,
    `undrawn` the runs without a finite result, and those that did not come to their end. `bends`
    has the share of the variance between the lower, middle and upper third of a number: a rank
    correlation sees no valley.
    """

    by: str
    axes: tuple[SettingAxis, ...]
    courses: tuple[Course, ...]
    importance: Mapping[str, Importance]
    bends: Mapping[str, Importance]
    varying: tuple[str, ...]
    together: tuple[tuple[str, ...], ...]
    undrawn: tuple[RunSummary, ...]
    notes: tuple[str, ...]
    width: float


def draw_sweep(
    runs: Sequence[RunSummary],
    by: str,
    columns: Sequence[str] = (),
    most: int = 9,
    *,
    importance: bool = True,
) -> Sweep:
    """Draw runs over `columns`, else over the settings that tell most, at most so many.

    Without `importance` it is not looked what goes with the result, and no scipy is imported.
    """
    drawn = [run for run in runs if _result(run, by) is not None]
    results = [_result(run, by) or 0.0 for run in drawn]
    varying = varying_settings(drawn)
    importances = {key: _importance(drawn, key, results) for key in varying} if importance else {}
    if importance:
        found = importances
        varying.sort(key=lambda key: (not found[key].told, -abs(found[key].strength or 0)))
    together = _together(drawn, varying)
    doubled = {key for group in together for key in group[1:]}
    shown = [key for key in columns if key in varying]
    shown = shown or [key for key in varying if key not in doubled][:most]
    apart = min(max(_WIDTH / max(len(shown), 1), _NEAREST), _FARTHEST)
    axes = [_axis(drawn, key, LEFT + apart * i) for i, key in enumerate(shown)]
    axes.append(_result_axis(results, by, LEFT + apart * len(shown)))
    return Sweep(
        by=by,
        axes=tuple(axes),
        courses=tuple(_courses(drawn, results, axes, by)),
        importance=importances,
        bends={k: _bend(drawn, k, results) for k in importances if _is_number(drawn, k)},
        varying=tuple(varying),
        together=tuple(together),
        undrawn=tuple(run for run in runs if _result(run, by) is None),
        notes=tuple(_notes(drawn, by)),
        width=LEFT + apart * len(shown) + 76,
    )


def better(by: str) -> str:
    """Say which end of a result is the better one."""
    return "higher is better" if by in HIGHER_IS_BETTER else "lower is better"


def varying_settings(runs: Sequence[RunSummary]) -> list[str]:
    """List the settings that are not the same in all runs; what only names a run is none."""
    keys = dict.fromkeys(key for run in runs for key in run.config if not key.startswith(_OWN))
    return [key for key in keys if _varies(runs, key)]


def _varies(runs: Sequence[RunSummary], key: str) -> bool:
    # Of a hundred settings of thousands of runs nearly all are the very same value.
    first, text = column_value(runs[0], key), _text(runs[0], key)
    return any(
        not (value is first or (type(value) is type(first) and value == first))
        and cell_text(key, value) != text
        for value in (column_value(run, key) for run in runs)
    )


def _result(run: RunSummary, by: str) -> float | None:
    return _number(run, by) if run.state in ENDED else None


def _text(run: RunSummary, key: str) -> str:
    return cell_text(key, column_value(run, key))


def _labels(runs: Sequence[RunSummary], key: str) -> dict[str, str]:
    """Shorten values for the page, a path to its file's name where no two have the same one."""
    texts = {_text(run, key): column_value(run, key) for run in runs}
    shown = {t: f"{v:.4g}" if isinstance(v, float) else t for t, v in texts.items()}
    if key.endswith(".path"):
        names = {text: PurePath(text).name for text in texts}
        shown = names if len(set(names.values())) == len(names) else shown
    return shown


def _number(run: RunSummary, key: str) -> float | None:
    value = number_of(run, key)
    return float(value) if value is not None and math.isfinite(value) else None


def _is_number(runs: Sequence[RunSummary], key: str) -> bool:
    return key not in _NAMES and all(_number(run, key) is not None for run in runs)


def _importance(runs: Sequence[RunSummary], key: str, results: Sequence[float]) -> Importance:
    if _is_number(runs, key):
        return rank_importance([_number(run, key) or 0.0 for run in runs], results)
    return share_importance([_text(run, key) for run in runs], results)


def _bend(runs: Sequence[RunSummary], key: str, results: Sequence[float]) -> Importance:
    values = [_number(run, key) or 0.0 for run in runs]
    order = sorted(values)
    thirds = [bisect_left(order, value) * 3 // len(order) for value in values]
    return share_importance(thirds, results)


def _together(runs: Sequence[RunSummary], keys: Sequence[str]) -> list[tuple[str, ...]]:
    groups: dict[object, list[str]] = {}
    for key in keys:
        groups.setdefault(_pattern(runs, key), []).append(key)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _pattern(runs: Sequence[RunSummary], key: str) -> object:
    """Describe which runs share a value; where none do, the order that a number puts them in.

    Of numbers drawn at random no two are the same, which alone makes no two settings go together.
    """
    texts = [_text(run, key) for run in runs]
    if len(set(texts)) < len(texts):
        first: dict[str, int] = {}
        return tuple(first.setdefault(text, place) for place, text in enumerate(texts))
    if not _is_number(runs, key):
        return key
    values = [_number(run, key) or 0.0 for run in runs]
    order = sorted(values)
    ranks = tuple(bisect_left(order, value) for value in values)
    return "order", min(ranks, tuple(len(ranks) - 1 - rank for rank in ranks))


def _axis(runs: Sequence[RunSummary], key: str, x: float) -> SettingAxis:
    if not _is_number(runs, key):
        words = sorted({_text(run, key) for run in runs})
        step = (BOTTOM - TOP) / len(words)
        places = {word: BOTTOM - step * (i + 0.5) for i, word in enumerate(words)}
        labels = _labels(runs, key)
        values_of = {_text(run, key): column_value(run, key) for run in reversed(runs)}
        ticks = [
            Tick(y, labels[word] or "not stated", _filter(key, values_of[word]))
            for word, y in places.items()
        ]
        return SettingAxis(key, x, "words", tuple(_apart(ticks)), places)
    values = sorted({_number(run, key) or 0.0 for run in runs})
    scale = _scale(values)
    places = {_text(run, key): _place(_number(run, key) or 0.0, values, scale) for run in runs}
    if len(values) <= _MOST_TICKS:
        ticks = [Tick(_place(v, values, scale), f"{v:g}", f"{key}={v!r}") for v in values]
    else:
        ticks = [Tick(_place(v, values, scale), f"{v:.3g}", None) for v in _even(values, scale)]
    return SettingAxis(key, x, scale, tuple(_apart(ticks)), places)


def _filter(key: str, value: object) -> str | None:
    """Keep the runs that have a value; a list has no filter."""
    return None if isinstance(value, (list, tuple)) else f"{key}={cell_text(key, value)}"


def _result_axis(results: Sequence[float], by: str, x: float) -> SettingAxis:
    values = sorted(set(results))
    ticks = [Tick(_place(v, values, "linear"), cell_text(by, v), None)
             for v in (_even(values, "linear") if len(values) > 1 else values)]  # fmt: skip
    return SettingAxis(by, x, "linear", tuple(_apart(ticks)), {})


def _scale(values: Sequence[float]) -> str:
    spread = values[0] > 0 and values[-1] / values[0] >= _LOGARITHMIC
    return "log" if spread else "linear"


def _place(value: float, values: Sequence[float], scale: str) -> float:
    low, high = values[0], values[-1]
    if scale == "log":
        low, high, value = math.log(low), math.log(high), math.log(value)
    part = 0.5 if high == low else (value - low) / (high - low)
    return BOTTOM - 10 - part * (BOTTOM - TOP - 20)


def _even(values: Sequence[float], scale: str) -> list[float]:
    low, high, steps = values[0], values[-1], 4
    if scale == "log":
        return [low * (high / low) ** (i / steps) for i in range(steps + 1)]
    return [low + (high - low) * i / steps for i in range(steps + 1)]


def _apart(ticks: Sequence[Tick]) -> list[Tick]:
    kept: list[Tick] = []
    for tick in sorted(ticks, key=lambda tick: tick.y):
        if not kept or tick.y - kept[-1].y >= _CLOSEST:
            kept.append(tick)
    return kept


def _courses(
    runs: Sequence[RunSummary], results: Sequence[float], axes: Sequence[SettingAxis], by: str
) -> list[Course]:
    values = sorted(set(results))
    order: dict[float, int] = {}
    for place, value in enumerate(sorted(results, reverse=by in HIGHER_IS_BETTER)):
        order.setdefault(value, place)
    labels = {axis.key: _labels(runs, axis.key) for axis in axes[:-1]}
    courses = []
    for run, result in zip(runs, results, strict=True):
        places = [(axis.x, axis.places[_text(run, axis.key)]) for axis in axes[:-1]]
        places.append((axes[-1].x, _place(result, values, "linear")))
        grade = order[result] * CLASSES // len(runs)
        texts = tuple(labels[axis.key][_text(run, axis.key)] for axis in axes[:-1])
        points = " ".join(f"{x:g},{y:.1f}" for x, y in places)
        courses.append(Course(run, points, grade, result, texts))
    return sorted(courses, key=lambda one: one.result, reverse=by not in HIGHER_IS_BETTER)


def _notes(runs: Sequence[RunSummary], by: str) -> list[str]:
    notes = []
    if by in ("val_loss", "best_val_loss", "perplexity"):
        asked = {run.examples_hash for run in runs}
        if len(asked) > 1:
            notes.append(
                f"These runs were scored on {len(asked)} different sets of held-out examples, so "
                f"their {by} does not compare; filter by data to keep those of one set."
            )
    if by == "judge" and len({run.judge_settings for run in runs}) > 1:
        notes.append("These scores are of several judges or questions and do not compare.")
    return notes


def importance_words(sweep: Sweep, key: str) -> str:
    """Say in a clause what the importance of a setting comes to."""
    found, bend = sweep.importance[key], sweep.bends.get(key)
    if found.n < FEWEST_RUNS:
        return f"cannot tell: {found.n} runs, and it takes {FEWEST_RUNS}"
    if found.told and found.strength is not None:
        if found.measure == "share":
            return f"goes with {found.strength:.0%} of the variance of {sweep.by}"
        side = "higher" if found.strength > 0 else "lower"
        return f"a higher {key} goes with a {side} {sweep.by}"
    if bend is not None and bend.told:
        return (
            "no trend, but a bend: its lower, middle and upper third differ, with "
            f"{strength_text(bend)} of the variance between them"
        )
    return f"cannot tell: {found.reason or 'the interval holds 0'}"


def strength_text(found: Importance) -> str:
    """Write the number with its interval."""
    if found.strength is None:
        return ""
    if found.interval is None:
        return f"{found.strength:.2f}"
    low, high = found.interval
    return f"{found.strength:.2f} ({low:.2f} to {high:.2f})"


def grades(sweep: Sweep) -> list[tuple[int, str]]:
    """List the classes that lines are drawn in, with the results they reach over."""
    found: dict[int, list[float]] = {}
    for course in sweep.courses:
        found.setdefault(course.grade, []).append(course.result)
    return [
        (grade, " to ".join(dict.fromkeys(format_number(v) for v in (min(all_), max(all_)))))
        for grade, all_ in sorted(found.items())
    ]
