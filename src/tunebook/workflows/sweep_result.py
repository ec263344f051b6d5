"""What came of a sweep: combinations from the best down, and which of them differ from the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunebook.book.atomic import write_text
from tunebook.book.events import read_events
from tunebook.book.places import RunFolder
from tunebook.book.plans import read_plan
from tunebook.book.summary import summarize
from tunebook.book.sweeps import SweepFolder, SweepTrial
from tunebook.pages.sweep import draw_sweep, importance_words
from tunebook.pages.sweep_table import sweep_markdown
from tunebook.pages.table import number_of
from tunebook.recipe.load import write_values
from tunebook.recipe.sweep import LEARNING_RATE, Sweep, overrides_of
from tunebook.records import RunSummary
from tunebook.statistics.lr_range import read_lr_range
from tunebook.statistics.seeds import Seeded, compare_seeds
from tunebook.trials import SweepPoint, SweepResult
from tunebook.workflows.new import state_overrides
from tunebook.workflows.sweep_documents import unlike_words, with_documents


def result_of(summary: RunSummary, by: str) -> float | None:
    """Give a run's result, None where it has none that is finite, or did not reach its last step.

    What a run had when a verdict ended it is no result of the same work.
    """
    value = number_of(summary, by) if summary.state == "finished" else None
    return float(value) if value is not None and math.isfinite(value) else None


def sum_up(
    sweep: Sweep,
    run: str,
    trials: Sequence[SweepTrial],
    book: Path,
    failed: Mapping[str, str],
    full: str,
) -> SweepResult:
    """Sum up the trials of a sweep as they are now."""
    made = [trial for trial in trials if trial.run(book).exists()]
    summaries = {trial.name: summarize(trial.run(book)) for trial in made}
    points = [
        _point([t for t in trials if t.point == number], summaries, sweep.by)
        for number in dict.fromkeys(trial.point for trial in trials)
    ]
    points.sort(key=lambda one: (one.mean is None, one.mean))
    if sweep.search == "lr-range":
        return _of_range(sweep, points, made, book, failed)
    notes = [f"{name} failed: {why}" for name, why in failed.items()]
    if "lora.rank" in sweep.over and "lora.alpha" not in sweep.over:
        notes.append(
            "lora.alpha stayed while lora.rank varied, so each rank has another scale (alpha / "
            "rank): what differs is rank and scale together"
        )
    unlike = unlike_words(points, book, sweep.by)
    if unlike is not None:
        told = [unlike]
    elif sweep.seeds > 1:
        points, told = _with_seeds(points)
    else:
        points, told = with_documents(points, book, sweep.by)
    notes += _warnings(made, book)
    return SweepResult(
        name=sweep.name,
        by=sweep.by,
        settings=tuple(sweep.over),
        points=tuple(points),
        importance={} if unlike else _importance(sweep, points, summaries),
        notes=(*told, *notes, *([f"ended before its last trial: {full}"] if _early(full) else [])),
        best=None if unlike or not points or points[0].mean is None else points[0].point,
        failed=dict(failed),
    )


def _warnings(trials: Sequence[SweepTrial], book: Path) -> list[str]:
    """Say what the plans of some trials warned of, and those of others did not."""
    found: dict[str, dict[str, str]] = {}
    for trial in trials:
        for check in read_plan(trial.run(book)).get("checks", []):
            if check["level"] == "warn":
                found.setdefault(check["name"], {})[trial.name] = check["message"]
    told = []
    for name, by_trial in found.items():
        if len(by_trial) < len(trials):
            first, message = next(iter(by_trial.items()))
            more = f" and of {len(by_trial) - 1} more" if len(by_trial) > 1 else ""
            told.append(f"the plan of {first}{more} warned of {name}: {message}")
    return told


def _of_range(
    sweep: Sweep,
    points: Sequence[SweepPoint],
    made: Sequence[SweepTrial],
    book: Path,
    failed: Mapping[str, str],
) -> SweepResult:
    """Read a learning-rate range test; its best settings are the rate that it advises."""
    steps = read_events(made[0].run(book)).steps if made else []
    told = [(s.learning_rate, s.loss) for s in steps if s.learning_rate is not None]
    found = read_lr_range([rate for rate, _ in told], [loss for _, loss in told])
    best = None
    if points and found.advice is not None:
        points = [replace(points[0], settings={LEARNING_RATE: found.advice})]
        best = points[0].point
    return SweepResult(
        name=sweep.name,
        by=sweep.by,
        settings=(LEARNING_RATE,),
        points=tuple(points),
        importance={},
        notes=(found.words, *(f"{name} failed: {why}" for name, why in failed.items())),
        best=best,
        failed=dict(failed),
    )


def _early(full: str) -> bool:
    return full not in ("", "all")


def _point(
    trials: Sequence[SweepTrial], summaries: Mapping[str, RunSummary], by: str
) -> SweepPoint:
    own = [summaries[trial.name] for trial in trials if trial.name in summaries]
    values = {one.name: result_of(one, by) for one in own}
    known = [value for value in values.values() if value is not None]
    return SweepPoint(
        point=trials[0].point,
        settings=dict(trials[0].settings),
        runs=tuple(trial.name for trial in trials),
        states=tuple(one.state for one in own),
        verdicts=tuple(dict.fromkeys(kind for one in own for kind in one.verdicts)),
        values=tuple(values.get(trial.name) for trial in trials),
        mean=math.fsum(known) / len(known) if known else None,
        seconds=math.fsum(one.seconds or 0 for one in own),
    )


def _with_seeds(points: Sequence[SweepPoint]) -> tuple[list[SweepPoint], list[str]]:
    """Add intervals over seeds, and the verdict of each combination against the best."""
    groups = {
        str(one.point): [value for value in one.values if value is not None]
        for one in points
        if one.mean is not None
    }
    found: Seeded | None = compare_seeds(groups)
    if found is None:
        return list(points), ["no combination has two finished runs, so noise is not known"]
    made = [
        replace(
            one,
            interval=found.intervals.get(str(one.point)),
            verdict=found.verdicts.get(str(one.point), ""),
            difference=found.differences.get(str(one.point)),
        )
        for one in points
    ]
    return made, [found.words]


def _importance(
    sweep: Sweep, points: Sequence[SweepPoint], summaries: Mapping[str, RunSummary]
) -> dict[str, str]:
    """Say how far each setting goes with the result, of combinations: seeds tell nothing of it."""
    means: list[RunSummary] = []
    for one in points:
        first = next((name for name in one.runs if name in summaries), None)
        if one.mean is not None and first is not None:
            result: dict[str, Any] = {sweep.by: one.mean, "state": "finished"}
            means.append(replace(summaries[first], **result))
    drawn = draw_sweep(means, sweep.by, most=50)
    return {key: importance_words(drawn, key) for key in sweep.over if key in drawn.importance}


def keep_result(result: SweepResult, folder: SweepFolder, run: str) -> None:
    """Write the table, and the run file with the best settings, into the sweep's folder."""
    write_text(folder.result_md, sweep_markdown(result))
    if result.best is None:
        folder.best_yaml.unlink(missing_ok=True)
        return
    best = next(one for one in result.points if one.point == result.best)
    write_text(folder.best_yaml, _best_file(result, best, folder, run))


def _best_file(result: SweepResult, best: SweepPoint, folder: SweepFolder, run: str) -> str:
    name = f"{result.name}-best"
    parent = str(Path(run).resolve()) if Path(run).is_file() else run
    values: dict[str, Any] = {"extends": parent, "name": name}
    stated = state_overrides(
        folder.book, RunFolder(folder.book, name), values, overrides_of(best.settings)
    )
    head = f"# The best of {len(result.points)} combinations by {result.by}; see result.md.\n"
    return head + write_values(stated)
