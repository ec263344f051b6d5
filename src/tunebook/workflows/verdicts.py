"""What detectors say of a run of the book by its stored log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunebook.book.evaluations import read_results
from tunebook.book.events import Events, read_events
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder, open_run
from tunebook.book.replays import read_replays
from tunebook.book.run_file import imported_from
from tunebook.kinds import FAMILIES, FAULTS
from tunebook.records import Diagnosis, Evaluation, Verdict
from tunebook.trials import Replay
from tunebook.watch.diagnose import DETECTED, coverage, diagnose
from tunebook.watch.evaluations import find_in_evaluations
from tunebook.workflows.run_log import run_log

_ABOUT_STEPS = 3
SPIKES = frozenset(kind for family in FAMILIES.values() for kind in family)


def find_verdicts(book: Path, name: str) -> Diagnosis:
    """Look at a run by its name; what is not confirmed of one that still trains stays amber.

    Raises BookError when there is no such run, or its events are damaged.
    """
    run = open_run(book, name)
    events = read_events(run)
    diagnosis = with_evaluations(diagnose_run(run, events), read_results(run))
    diagnosis = with_replays(diagnosis, read_replays(run))
    if imported_from(run):
        # A next run cannot take over what was never known of its model and data.
        plain = tuple(replace(verdict, changes=()) for verdict in diagnosis.verdicts)
        diagnosis = replace(diagnosis, verdicts=plain)
    if current_state(run, events) != "running":
        return diagnosis
    sure = [v for v in events.verdicts if v.confidence != "amber"]

    def so_far(verdict: Verdict) -> Verdict:
        known = verdict.confidence == "certain" or any(v.meets(verdict) for v in sure)
        return verdict if known else replace(verdict, confidence="amber")

    return replace(diagnosis, verdicts=tuple(map(so_far, diagnosis.verdicts)), final=False)


def with_evaluations(diagnosis: Diagnosis, results: Sequence[Evaluation]) -> Diagnosis:
    """Add what the evaluations of a run say of it."""
    more = find_in_evaluations(results)
    return replace(diagnosis, verdicts=_together(diagnosis.verdicts, more)) if more else diagnosis


def _is_of(verdict: Verdict, step: int) -> bool:
    """Tell whether a step belongs to an incident: when it begins is known to a few steps."""
    if verdict.step is None:
        return False
    last = verdict.step if verdict.last_step is None else verdict.last_step
    return verdict.step - _ABOUT_STEPS <= step <= last + _ABOUT_STEPS


def with_replays(diagnosis: Diagnosis, replays: Sequence[Replay]) -> Diagnosis:
    """Put causes that replays established in the place of what the log alone says of them."""
    sure = {one.step: one.verdict for one in replays if one.verdict.confidence == "certain"}
    others = [
        verdict
        for verdict in diagnosis.verdicts
        if verdict.kind not in SPIKES or not any(_is_of(verdict, step) for step in sure)
    ]
    return replace(diagnosis, verdicts=_together(others, list(sure.values())))


def _together(found: Sequence[Verdict], more: Sequence[Verdict]) -> tuple[Verdict, ...]:
    faults = any(verdict.kind in FAULTS for verdict in more)
    kept = [v for v in found if not (faults and v.kind == "no_fault_found")]
    return tuple(sorted((*more, *kept), key=lambda v: (v.step is None, v.step or 0)))


def diagnose_run(run: RunFolder, events: Events) -> Diagnosis:
    """Look at the whole log of a run with all detectors there are now.

    What only its training could see, such as batches that were skipped, is taken from its events.
    """
    log = run_log(run, events)
    if not log.steps:
        return events.diagnosis  # of a table that was imported
    told = [v for v in events.verdicts if v.kind not in DETECTED and v.kind in FAULTS]
    seen, blind = coverage(log)
    # Every step of a run that was trained here was held against its rows.
    trained = ("skipped_batches",) if events.fact("effective_batch_size") else ()
    verdicts = _together(diagnose(log), told)
    found = Diagnosis(log.steps[-1].step, verdicts, (*seen, *trained), blind, final=True)
    return with_name(found, run.name)


def with_name(diagnosis: Diagnosis, name: str) -> Diagnosis:
    """Name the run in what to do next, where detectors write `RUN`: they do not know its name."""
    named = [replace(v, next_action=name_run(v.next_action, name)) for v in diagnosis.verdicts]
    return replace(diagnosis, verdicts=tuple(named))


def name_run(text: str, name: str) -> str:
    """Name the run in a text of detectors."""
    return text.replace(" RUN ", f" {name} ")
