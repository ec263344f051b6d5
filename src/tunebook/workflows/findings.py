"""What a step shows about the run, said and written down at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tunebook.book.events import read_events
from tunebook.records import StepRecord, Verdict
from tunebook.watch.frozen_weights import LOOKED_AT_STEPS, find_frozen_weights
from tunebook.watch.non_finite import find_non_finite
from tunebook.watch.skipped_batches import find_skipped_batches

if TYPE_CHECKING:
    from tunebook.workflows.before import Run


def look_at_step(run: Run, record: StepRecord) -> str | None:
    """Report what is wrong with a step; gives the reason when a verdict ends the run."""
    if record.step == min(LOOKED_AT_STEPS, run.training.horizon.total_steps):
        frozen = find_frozen_weights(read_events(run.run).steps)
        if frozen is not None:
            run.say(f"step {record.step}: {frozen.cause}")
            _write_once(run, frozen)
    return _skipped(run, record) or _non_finite(run, record)


def weights_are_finite(record: StepRecord) -> bool:
    """Tell whether every trained weight was a number after a step."""
    return not math.isnan(record.update_ratio or 0.0)


def _skipped(run: Run, record: StepRecord) -> str | None:
    verdict = find_skipped_batches(record, _rows_of(run, record.step))
    if verdict is None:
        return None
    ids = ", ".join(map(str, verdict.evidence["examples"][:8]))  # type: ignore[index]
    run.say(f"{verdict.cause} (examples {ids})")
    _write_once(run, verdict)
    return verdict.cause if "skipped_batches" in run.recipe.stop_on else None


def _rows_of(run: Run, step: int) -> list[tuple[str, int]]:
    """Look the rows of a step up once more, past all that lays them out and trains on them."""
    rows = run.training.horizon.rows_of_step(step)
    return [one for index in rows for one in run.training.data.target_counts_of(index)]


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
    verdict = find_non_finite(read_events(run.run).steps)
    if verdict is not None:
        _write_once(run, verdict)
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


def _write_once(run: Run, verdict: Verdict) -> None:
    """Write a verdict when its kind is new: a run that then pauses or fails has it too."""
    if all(known.kind != verdict.kind for known in read_events(run.run).verdicts):
        run.events.write("verdict", verdict)
