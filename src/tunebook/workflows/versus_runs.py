"""Hold one run against another: what changed, what came of it, and whether that says anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import variance

from tunebook.book.events import read_events
from tunebook.book.index import run_summaries
from tunebook.book.places import RunFolder, open_run
from tunebook.book.run_file import imported_from
from tunebook.book.summary import summarize
from tunebook.errors import UsageError
from tunebook.records import Comparison, ItemScore, RunSummary, ValidationRecord, Verdict
from tunebook.watch.between import (
    NO_CAUSE,
    Change,
    Compared,
    Side,
    find_cannot_explain,
    find_confounded,
    find_noise_only,
    settings_changed,
)
from tunebook.workflows.run_log import run_log

BASE = "base"
"""What a run started from, as the other side of a comparison."""
_MARGIN_NATS = 0.01


@dataclass(frozen=True, slots=True)
class Assumed:
    """What averages without items are compared by: questions, SD per question, correlation."""

    n: int = 100
    sd: float = 40.0
    correlation: float = 0.0

    def words(self) -> str:
        """Say it."""
        paired = f"correlation {self.correlation:g}" if self.correlation else "unpaired"
        return f"assumed: {self.n} questions, SD {self.sd:g} per question, {paired}"


@dataclass(frozen=True, slots=True)
class Versus:
    """A run against another; `notes` say what could not be compared."""

    run: str
    against: str
    changed: Mapping[str, Change]
    compared: Mapping[str, Compared]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]


def versus(
    book: Path, name: str, against: str, assumed: Assumed, suspect: str | None = None
) -> Versus:
    """Compare a run with another of the book, or with its untouched base as `base`.

    `suspect` is a setting that is said to be the cause. BookError where there is no such run,
    UsageError for assumptions or settings that cannot be.
    """
    run = open_run(book, name)
    if against in (BASE, f"{name}/{BASE}"):
        return _versus_base(run, assumed)
    other = open_run(book, against)
    if other == run:
        raise UsageError(f"{name} is not compared with itself; name another run, or `{BASE}`")
    summaries = {one.name: one for one in run_summaries(book)}
    now, then = summarize(run), summarize(other)
    sides = _side(other, then, run), _side(run, now, other)
    changed = settings_changed(*sides)
    known = {*sides[0].settings, *sides[1].settings}
    if suspect is not None and suspect not in known:
        raise UsageError(
            f"neither run has a setting {suspect}; there is {', '.join(sorted(known))}"
        )
    compared, notes = _compare(run, other, now, then, assumed)
    compared = {
        metric: _with_seeds(one, metric, (now, then), summaries) for metric, one in compared.items()
    }
    excluded = find_cannot_explain(*sides, changed, suspect)
    left = {key: change for key, change in changed.items() if key not in excluded}
    found = [
        *excluded.values(),
        find_confounded(*sides, left, suspect),
        find_noise_only(*sides, compared),
    ]
    verdicts = tuple(verdict for verdict in found if verdict is not None)
    return Versus(name, against, changed, compared, verdicts, tuple(notes))


def _versus_base(run: RunFolder, assumed: Assumed) -> Versus:
    events, compared = read_events(run), dict[str, Compared]()
    first = next((v for v in events.validations if v.step == 0), None)
    if len(events.validations) > 1 and first is not None:
        last = events.validations[-1]
        if loss := _by_documents((run.name, last), (BASE, first)):
            compared["val_loss"] = loss
    own, base = summarize(run).judge, (events.fact("reported") or {}).get("base_judge")
    if own is not None and base is not None:
        compared["judge"] = _averages(own, float(base), assumed)
    if not compared:
        raise UsageError(
            f"nothing is known of both {run.name} and its base: no held-out loss of both, no score "
            f"of a judge; `tunebook evaluate {run.name}` measures both"
        )
    sides = Side(BASE, {}), Side(run.name, {})
    noise = find_noise_only(*sides, compared)
    return Versus(run.name, BASE, {}, compared, (noise,) if noise else (), ())


def _side(run: RunFolder, summary: RunSummary, other: RunFolder) -> Side:
    return Side(run.name, settings_beside(run, summary, other), run_log(run))


def settings_beside(run: RunFolder, summary: RunSummary, other: RunFolder) -> dict[str, object]:
    """Collect settings; of a run trained here only those that an imported one beside it knows."""
    own, theirs = imported_from(run), imported_from(other)
    settings = dict(summary.config)
    if own:
        settings = {key: value for key, value in settings.items() if value is not None}
        settings |= {**dict.fromkeys(own.get("not_given") or ()), **(own.get("other") or {})}
    elif theirs:
        known = {*summarize(other).config, *(theirs.get("not_given") or ())}
        settings = {key: value for key, value in settings.items() if key in known}
    return settings


def _compare(
    run: RunFolder, other: RunFolder, now: RunSummary, then: RunSummary, assumed: Assumed
) -> tuple[dict[str, Compared], list[str]]:
    """Compare by items where there are any, and averages of a judge by what is assumed."""
    compared: dict[str, Compared] = {}
    notes: list[str] = []
    lasts = [(read_events(one).validations or (None,))[-1] for one in (run, other)]
    if loss := _by_documents((run.name, lasts[0]), (other.name, lasts[1])):
        compared["val_loss"] = loss
    elif now.val_loss is not None and then.val_loss is not None:
        notes.append(
            f"val_loss {now.val_loss:.4g} and {then.val_loss:.4g} are averages without their "
            "documents, so that what of their difference is noise is not known"
        )
    if now.judge is None or then.judge is None:
        return compared, notes
    if now.judge_settings != then.judge_settings:
        notes.append("they were judged by another judge, prompt or on other questions")
    elif imported_from(run) or imported_from(other):
        compared["judge"] = _averages(now.judge, then.judge, assumed)
    else:
        notes.append(
            f"`tunebook compare {run.name} {other.name} --by judge` compares their answers "
            "question by question"
        )
    return compared, notes


def _averages(first: float, second: float, assumed: Assumed) -> Compared:
    from tunebook.statistics.averages import compare_averages

    comparison = compare_averages(
        first, second, n=assumed.n, sd=assumed.sd, correlation=assumed.correlation
    )
    return Compared(first, second, comparison, assumed.words())


def _by_documents(
    one: tuple[str, ValidationRecord | None], other: tuple[str, ValidationRecord | None]
) -> Compared | None:
    """Compare validations document by document; None unless both were on the same examples."""
    (_, first), (_, second) = one, other
    if first is None or second is None or first.examples_hash is None:
        return None
    if first.examples_hash != second.examples_hash:
        return None
    rows = [document_rows(one[0], first), document_rows(other[0], second)]
    if not all(rows) or len(rows[0]) != len(rows[1]):
        return None
    from tunebook.statistics.compare import compare

    comparison: Comparison = compare(*rows, margin=_MARGIN_NATS)
    return Compared(first.loss, second.loss, comparison)


def document_rows(name: str, validation: ValidationRecord) -> list[ItemScore]:
    """Give the documents of a validation as items with a score; none where they are not known."""
    return [
        ItemScore(d.id, "", name, d.loss_sum, d.target_tokens)
        for d in validation.per_document
        if math.isfinite(d.loss_sum)
    ]


def _with_seeds(
    one: Compared,
    metric: str,
    runs: Sequence[RunSummary],
    summaries: Mapping[str, RunSummary],
) -> Compared:
    """Add the SD over seeds, pooled over the recipes of both runs."""
    squares, degrees = 0.0, 0
    recipes = [_recipe(run) for run in runs]
    for place, recipe in enumerate(recipes):
        if recipe in recipes[:place]:
            continue
        by_seed = {
            other.config["seed"]: float(value)
            for other in summaries.values()
            if other.state == "finished"
            and other.config.get("seed") is not None
            and _recipe(other) == recipe
            and (value := getattr(other, metric)) is not None
        }
        if len(by_seed) > 1:
            squares += variance(by_seed.values()) * (len(by_seed) - 1)
            degrees += len(by_seed) - 1
    if not degrees:
        return one
    return replace(one, seed_sd=math.sqrt(squares / degrees), seed_degrees=degrees)


def _recipe(run: RunSummary) -> dict[str, object]:
    """Give all that decides a run but its seed."""
    decides = {k: v for k, v in run.config.items() if not k.startswith(NO_CAUSE)}
    return {**decides, "examples": run.examples_hash}
