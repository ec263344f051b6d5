"""The steps of a run as its page needs them: read as columns where records would take seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunebook.book.diagnosis import whole_diagnosis
from tunebook.book.events import Events, is_long, read_events
from tunebook.book.places import RunFolder
from tunebook.book.step_totals import (
    StepTotals,
    Work,
    pace_of_records,
    totals_of_records,
    work_of_records,
)
from tunebook.pages.run_curves import RunCurves, curves_of_columns, run_curves
from tunebook.pages.speed import Speed, profiled_steps, speed_of_look, speed_of_run

if TYPE_CHECKING:
    from tunebook.book.reader import Look


@dataclass(frozen=True, slots=True)
class RunSteps:
    """What the events of a run come to; of a long run `events` has all but the steps."""

    events: Events
    totals: StepTotals
    work: Work
    curves: RunCurves
    speed: Speed


def _judged(run: RunFolder, events: Events) -> Events:
    """Put what is known of a run by now, which its figure flags, in the place of what its log says.

    The rest of a page asks for that itself.
    """
    return replace(events, diagnosis=whole_diagnosis(run, events.diagnosis))


def read_steps(run: RunFolder, look: Look | None = None) -> RunSteps:
    """Read the events of a run, unless a caller just did; BookError when they are damaged."""
    if look is None and is_long(run):
        from tunebook.book.reader import RunReader

        look = RunReader(run).look()
    if look is not None:
        curves = curves_of_columns(run.name, _judged(run, look.events), look.steps)
        totals, work = look.steps.totals(), look.steps.work()
        return RunSteps(look.events, totals, work, curves, speed_of_look(look))
    events = read_events(run)
    totals, work = totals_of_records(events.steps), work_of_records(events.steps)
    curves = run_curves(run.name, _judged(run, events))
    speed = speed_of_run(pace_of_records(events.steps, profiled_steps(events)), events)
    return RunSteps(events, totals, work, curves, speed)
