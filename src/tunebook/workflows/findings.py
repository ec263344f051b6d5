"""What a step, and the log so far, show about the run: said and written down at once."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from tunebook.book.events import read_events
from tunebook.errors import first_line
from tunebook.records import Diagnosis, StepRecord
from tunebook.watch.non_finite import find_non_finite
from tunebook.watch.skipped_batches import find_skipped_batches
from tunebook.workflows.verdicts import diagnose_run, name_run, with_name

if TYPE_CHECKING:
    from tunebook.workflows.before import Run


def look_at_step(run: Run, record: StepRecord) -> str | None:
    """Report what is wrong with a step; gives the reason when that ends the run."""
    run.looks.add(record)
    return _skipped(run, record) or _non_finite(run, record)


def look_at_log(run: Run, record: StepRecord, *, validated: bool) -> str | None:
    """Diagnose the log so far when it is time to; gives the reason when a verdict ends the run."""
    began = time.monotonic()
    if not run.looks.due(record.step, began - run.begun, validated=validated):
        return None
    try:
        found = run.looks.look()
    except Exception as error:  # a bug in a detector costs verdicts, never the run
        found = None
        _cannot_diagnose(run, error)
    if found is not None:
        _write(run, found)
    run.looks.spend(record.step, began - run.begun, time.monotonic() - run.begun)
    if record.step == run.training.horizon.total_steps:
        return None
    # Those two have rules of their own below.
    reason = run.looks.ends(set(run.recipe.stop_on) - {"non_finite", "skipped_batches"})
    return None if reason is None else name_run(reason, run.run.name)


def conclude(run: Run) -> None:
    """Diagnose the whole log, in place of what was found while it grew."""
    try:
        diagnosis = diagnose_run(run.run, read_events(run.run))
    except Exception as error:
        _cannot_diagnose(run, error)
    else:
        _write(run, diagnosis)


def _cannot_diagnose(run: Run, error: Exception) -> None:
    if run.undiagnosed:
        return
    run.undiagnosed = True
    run.say(
        f"the run could not be diagnosed: {type(error).__name__}: {first_line(error)}; "
        f"`tunebook verdicts {run.run.name}` tries again"
    )


def _write(run: Run, diagnosis: Diagnosis) -> None:
    diagnosis = with_name(diagnosis, run.run.name)
    run.events.write("verdicts", diagnosis)
    for verdict in diagnosis.verdicts:
        print(f"{verdict.kind} ({verdict.confidence}): {verdict.cause}", flush=True)
    run.beat()


def weights_are_finite(record: StepRecord) -> bool:
    """Tell whether every trained weight was a number after a step."""
    return not math.isnan(record.update_ratio or 0.0)


def _skipped(run: Run, record: StepRecord) -> str | None:
    verdict = find_skipped_batches(record, _rows_of(run, record.step))
    if verdict is None:
        return None
    ids = ", ".join(map(str, verdict.evidence["examples"][:8]))  # type: ignore[index]
    run.say(f"{verdict.cause} (examples {ids})")
    _write(run, run.looks.tell(verdict))
    return verdict.cause if "skipped_batches" in run.recipe.stop_on else None


def _rows_of(run: Run, step: int) -> list[tuple[str, int]]:
    """Look the rows of a step up once more, past all that lays them out and trains on them."""
    rows = run.training.horizon.rows_of_step(step)
    return [one for index in rows for one in run.prepared.train.target_counts_of(index)]


def _non_finite(run: Run, record: StepRecord) -> str | None:
    of_step = find_non_finite([record])
    if of_step is None:
        return None
    run.non_finite_steps += 1
    ids = ", ".join(e.id for e in record.examples[:8])
    broken = record.applied and not weights_are_finite(record)
    if broken:
        what = "the update made weights NaN or infinite"
    else:
        update = "made all the same" if record.applied else "left out"
        what = (
            f"loss {record.loss} or gradient norm {record.grad_norm} is not finite; the update was "
            f"{update}"
        )
    run.say(f"step {record.step}: {what} (rows {ids})")
    if all(known.kind != "non_finite" for known in run.looks.verdicts):
        _write(run, run.looks.tell(of_step))
    limit = run.recipe.train.non_finite_limit
    if "non_finite" not in run.recipe.stop_on:
        return None
    if broken:
        return f"{of_step.cause}; {of_step.next_action}"
    if run.non_finite_steps < limit:
        return None
    kept = "the weights are those of the last finite step"
    if not weights_are_finite(record):
        kept = "the weights are not finite either, and only earlier checkpoints are good"
    return (
        f"{run.non_finite_steps} steps had a loss or gradient that was not finite, the limit of "
        f"train.non_finite_limit; {kept}"
    )
