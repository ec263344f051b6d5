"""What detectors say of a run of the book by its stored log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tunebook.book.events import Events, read_events
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder, open_run
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
    diagnosis = diagnose_run(run, events)
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
    told = [v for v in events.verdicts if v.kind not in DETECTED and v.kind in FAULTS]
    found = [v for v in diagnose(log) if not (told and v.kind == "no_fault_found")]
    seen, blind = coverage(log)
    # Every step of a run that was trained here was held against its rows.
    trained = ("skipped_batches",) if events.fact("effective_batch_size") else ()
    verdicts = sorted((*told, *found), key=lambda v: (v.step is None, v.step or 0))
    step = log.steps[-1].step if log.steps else None
    return Diagnosis(step, tuple(verdicts), (*seen, *trained), blind, final=True)
