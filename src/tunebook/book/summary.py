"""One line about a run, from its files only."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunebook.book.diagnosis import whole_diagnosis
from tunebook.book.evaluations import read_results, settings_hash
from tunebook.book.events import Events, is_long, read_events
from tunebook.book.inside import read_text_inside
from tunebook.book.liveness import live_state
from tunebook.book.markers import author_words
from tunebook.book.places import RunFolder
from tunebook.book.predictions import count_outcomes, parse_prediction, score_prediction
from tunebook.book.run_file import flatten, read_config, read_own_yaml, weight_parent
from tunebook.book.seal import read_seal
from tunebook.book.step_totals import StepTotals, totals_of_records
from tunebook.errors import RunFileError, TunebookError
from tunebook.records import Diagnosis, Outcome, RunSummary, State, ValidationRecord

OVER: tuple[State, ...] = ("finished", "stopped", "failed")
"""States in which predictions are scored for good."""

_NOTE_LINE = re.compile(r"^- \d{4}-\d\d-\d\d: .*$", re.MULTILINE)
_TAG = re.compile(r"(?<!\S)#([A-Za-z0-9][\w-]*)")


@dataclass(frozen=True, slots=True)
class Measured:
    """A summary without what depends on the moment or on other runs.

    `recorded` is the last recorded state, None when there is none; the summary's `state` is only
    right after `bring_to_life`. `sparks` is a small loss curve, see `StepTotals`. Without `read`
    nothing but the state is known: the run waits to be read, or cannot be.
    """

    summary: RunSummary
    recorded: State | None
    started: bool
    predictions: tuple[str, ...]
    sparks: tuple[tuple[float, float], ...] = ()
    read: bool = True


def summarize(run: RunFolder) -> RunSummary:
    """Summarize a run, its predictions scored against the other runs of its book."""
    summary = bring_to_life(run, measured := measure(run))
    return replace(summary, outcome=outcome_words(measured, summary, book_lookup(run)))


def book_lookup(run: RunFolder) -> Callable[[str], RunSummary | None]:
    """Look other runs of the same book up by name; None for a run that is not there."""

    def find(name: str) -> RunSummary | None:
        try:
            other = RunFolder(run.book, name)
            return bring_to_life(other, measure(other)) if other.exists() else None
        except TunebookError:
            return None

    return find


def bring_to_life(run: RunFolder, measured: Measured) -> RunSummary:
    """Fill in the state of this moment."""
    return replace(measured.summary, state=state_of(run, measured))


def state_of(run: RunFolder, measured: Measured) -> State:
    """Say in what state a run is at this moment."""
    if not measured.started:
        return "new"
    state = live_state(run, measured.recorded)
    # What cannot be read may be of a finished run; that its process lives is known all the same.
    lost = not measured.read and measured.recorded is None and state != "running"
    return "unknown" if lost else state


def outcome_words(
    measured: Measured, summary: RunSummary, others: Callable[[str], RunSummary | None]
) -> str | None:
    """Count how many predictions held; None before the run is over or without predictions."""
    if summary.state not in OVER:
        return None
    return count_outcomes(score_all(measured.predictions, summary, others))


def score_all(
    predictions: Sequence[str], summary: RunSummary, others: Callable[[str], RunSummary | None]
) -> list[Outcome]:
    """Score each prediction; one that cannot be read is unknown."""
    outcomes = []
    for text in predictions:
        try:
            outcomes.append(score_prediction(parse_prediction(text), summary, others))
        except RunFileError as error:
            outcomes.append(Outcome(text, None, "", str(error)))
    return outcomes


def score_runs(
    measured: Mapping[str, tuple[RunSummary, Measured]],
) -> tuple[dict[str, RunSummary], dict[str, list[Outcome]]]:
    """Take the summaries of runs by name, and score their predictions."""
    runs = {name: summary for name, (summary, _) in measured.items()}
    return runs, {
        name: score_all(found.predictions, summary, runs.get)
        for name, (summary, found) in measured.items()
    }


def measure(run: RunFolder, read: tuple[Events, StepTotals] | None = None) -> Measured:
    """Read everything about a run that its own files say.

    `read` has its events, where the caller has read them, and what they come to.
    """
    started = run.started()
    config, as_written = read_config(run)
    events, totals = read or (_read(run) if started else (Events(), StepTotals()))
    sealed = read_seal(run)
    notebook = _mapping(config.get("notebook"))
    predictions = sealed.predictions if sealed else _strings(notebook.get("predict"))
    hypothesis = sealed.hypothesis if sealed else _text(notebook.get("hypothesis"))
    parent = weight_parent(as_written)
    notes = _notes(run)
    tags = [tag for line in notes for tag in _TAG.findall(line)]
    summary = RunSummary(
        name=run.name,
        state="new",
        model=_text(as_written),
        stage=_text(config.get("stage")),
        method=_text(config.get("method")),
        parents=(parent[0],) if parent else (),
        **_found(whole_diagnosis(run, events.diagnosis)),
        started=events.started,
        hypothesis=hypothesis,
        tags=tuple(dict.fromkeys((*_strings(notebook.get("tags")), *tags))),
        note=notes[-1].removeprefix("- ") if notes else None,
        config=_with_extends(run, flatten(config)),
    )
    summary = replace(_with_numbers(summary, events, totals), **_judged(run))
    return Measured(summary, events.last_state, started, predictions, totals.sparks)


def _read(run: RunFolder) -> tuple[Events, StepTotals]:
    """Read a long run by columns; those of a short one take less time than to import what does."""
    if is_long(run):
        from tunebook.book.reader import RunReader

        return RunReader(run).look().totals()
    found = read_events(run)
    return found, totals_of_records(found.steps)


def _found(diagnosis: Diagnosis) -> dict[str, Any]:
    kinds = {v.kind: None for v in diagnosis.verdicts}
    confirmed = {v.kind for v in diagnosis.verdicts if v.confidence != "amber"}
    return {
        "verdicts": tuple(kinds),
        "amber": tuple(kind for kind in kinds if kind not in confirmed),
        "effects": tuple(
            {n: None for v in diagnosis.verdicts if v.kind in confirmed for n in v.names[1:]}
        ),
        "looked_for": diagnosis.looked_for,
        "not_looked_for": diagnosis.not_looked_for,
    }


def _judged(run: RunFolder) -> dict[str, Any]:
    """Give the newest score of a judge for the final weights, and what it was made with."""
    found = [one for one in read_results(run, "judge") if one.subject == "final"]
    if not found:
        return {}
    made_with = {k: v for k, v in found[-1].settings.items() if k not in ("weights", "answers")}
    return {"judge": found[-1].score, "judge_settings": settings_hash(made_with)}


def _with_extends(run: RunFolder, config: dict[str, Any]) -> dict[str, Any]:
    # A resolved recipe need not repeat what it extends; the author's file always says it.
    if run.resolved_yaml.exists() and not config.get("extends"):
        config["extends"] = read_own_yaml(run, run.run_yaml).get("extends")
    return config


def _with_numbers(summary: RunSummary, events: Events, totals: StepTotals) -> RunSummary:
    # A fork begins at the step of the checkpoint that it went on from. An imported curve may lack
    # its first steps.
    reported = events.fact("reported")
    first: float = math.inf if totals.first is None else totals.first
    first = first if reported is None else 1
    base = next((v for v in events.validations if v.step < first), None)
    trained = [v for v in events.validations if v is not base]
    finite = [v for v in trained if math.isfinite(v.loss)]
    best = min(finite, key=lambda v: v.loss) if finite else None
    last = trained[-1] if trained else None
    shown = last or base
    peak = events.fact("peak_memory_bytes")
    steps = events.fact("steps")
    measured = replace(
        summary,
        train_loss=totals.late_loss,
        val_loss=last.loss if last else None,
        perplexity=perplexity(last.loss) if last else None,
        bits_per_byte=bits_per_byte(last) if last else None,
        base_val_loss=base.loss if base else None,
        best_val_loss=best.loss if best else None,
        best_step=best.step if best else None,
        examples_hash=shown.examples_hash if shown else None,
        device=_text(events.fact("device")),
        peak_memory_bytes=peak if isinstance(peak, int) else totals.peak_memory_bytes,
        seconds=events.active_seconds,
        step=totals.last,
        steps=steps if isinstance(steps, int) else None,
    )
    return measured if reported is None else _with_reported(measured, _mapping(reported))


def _with_reported(summary: RunSummary, reported: Mapping[str, Any]) -> RunSummary:
    """Fill in what an imported run says of its end; when it was imported says nothing of it."""
    unknown: dict[str, Any] = {
        name: reported.get(name)
        for name in ("train_loss", "val_loss", "perplexity", "judge", "judge_settings", "seconds",
                     "device", "steps", "best_step")
        if getattr(summary, name) is None
    }  # fmt: skip
    return replace(summary, **unknown, started=None)


def bits_per_byte(validation: ValidationRecord) -> float | None:
    """Give the loss in bits per byte of the scored text, which no tokenizer changes."""
    if not validation.scored_bytes or validation.target_tokens is None:
        return None
    return validation.loss * validation.target_tokens / math.log(2) / validation.scored_bytes


def perplexity(loss: float) -> float:
    """Exponentiate a loss in nats; infinite where that overflows."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def _notes(run: RunFolder) -> list[str]:
    """Read the dated lines that the author added outside the generated part of the page."""
    try:
        page = read_text_inside(run.book, run.notebook_md)
    except OSError:
        return []
    return _NOTE_LINE.findall(author_words(page))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
