"""What detectors say of a run of the book by its stored log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tunebook.book.diagnosis import put_together, whole_diagnosis
from tunebook.book.events import Events, read_events
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder, open_run
from tunebook.book.run_file import imported_from
from tunebook.kinds import FAULTS
from tunebook.records import Diagnosis, Verdict
from tunebook.watch.diagnose import DETECTED, coverage, diagnose
from tunebook.workflows.run_log import run_log


def find_verdicts(book: Path, name: str) -> Diagnosis:
    """Look at a run by its name; what is not confirmed of one that still trains stays amber.

    Raises BookError when there is no such run, or its events are damaged.
    """
    run = open_run(book, name)
    events = read_events(run)
    diagnosis = whole_diagnosis(run, diagnose_run(run, events))
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
    verdicts = put_together(diagnose(log), told)
    found = Diagnosis(log.steps[-1].step, verdicts, (*seen, *trained), blind, final=True)
    return with_name(found, run.name)


def with_name(diagnosis: Diagnosis, name: str) -> Diagnosis:
    """Name the run in what to do next, where detectors write `RUN`: they do not know its name."""
    named = [replace(v, next_action=name_run(v.next_action, name)) for v in diagnosis.verdicts]
    return replace(diagnosis, verdicts=tuple(named))


def name_run(text: str, name: str) -> str:
    """Name the run in a text of detectors."""
    return text.replace(" RUN ", f" {name} ")
