"""What is known of a run when all is put together: its log, its evaluations, its replays.

Every table, page and command tells of this, so that none says "no fault found" where another names
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunebook.book.evaluations import read_results
from tunebook.book.places import RunFolder
from tunebook.book.replays import read_replays
from tunebook.kinds import FAMILIES, FAULTS
from tunebook.records import Diagnosis, Verdict
from tunebook.statistics.in_evaluations import find_in_evaluations
from tunebook.trials import Replay

_ABOUT_STEPS = 3
SPIKES = frozenset(kind for family in FAMILIES.values() for kind in family)


def whole_diagnosis(run: RunFolder, diagnosis: Diagnosis) -> Diagnosis:
    """Add to what was found in the log of a run what its evaluations and replays say."""
    if not run.evaluations.is_dir():
        return diagnosis
    if more := find_in_evaluations(read_results(run)):
        diagnosis = replace(diagnosis, verdicts=put_together(diagnosis.verdicts, more))
    return with_replays(diagnosis, read_replays(run))


def with_replays(diagnosis: Diagnosis, replays: Sequence[Replay]) -> Diagnosis:
    """Put causes that replays established in the place of what the log alone says of them."""
    sure = {one.step: one.verdict for one in replays if one.verdict.confidence == "certain"}
    if not sure:
        return diagnosis
    others = [
        verdict
        for verdict in diagnosis.verdicts
        if verdict.kind not in SPIKES or not any(_is_of(verdict, step) for step in sure)
    ]
    return replace(diagnosis, verdicts=put_together(others, list(sure.values())))


def put_together(found: Sequence[Verdict], more: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Join verdicts in the order of their steps; with a fault, "no fault found" goes."""
    faults = any(verdict.kind in FAULTS for verdict in more)
    kept = [v for v in found if not (faults and v.kind == "no_fault_found")]
    return tuple(sorted((*more, *kept), key=lambda v: (v.step is None, v.step or 0)))


def _is_of(verdict: Verdict, step: int) -> bool:
    """Tell whether a step belongs to an incident: when it begins is known to a few steps."""
    if verdict.step is None:
        return False
    last = verdict.step if verdict.last_step is None else verdict.last_step
    return verdict.step - _ABOUT_STEPS <= step <= last + _ABOUT_STEPS
