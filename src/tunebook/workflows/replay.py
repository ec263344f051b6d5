"""What `tunebook replay` does: the steps around a spike again, in memory, one change at a time."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunebook.book.checkpoints import checkpoint_step, list_checkpoints, verify_checkpoint
from tunebook.book.diagnosis import SPIKES
from tunebook.book.events import Events, read_events
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder, open_run
from tunebook.book.replays import write_replay
from tunebook.book.run_file import resumed_from
from tunebook.errors import BookError, CheckpointError, UsageError
from tunebook.recipe.load import read_resolved
from tunebook.recipe.yaml_text import read_text
from tunebook.trials import Replay
from tunebook.units import format_seconds
from tunebook.watch.changes import LEAD, Before
from tunebook.watch.run_log import RunLog
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.run_log import facts_of
from tunebook.workflows.verdicts import diagnose_run

_FAR = 200
_CHANGES = 8  # two of them with other rows twice


def replay(
    name: str,
    book: Path,
    *,
    step: int | None = None,
    steps_after: int = 10,
    say: Callable[[str], None] = lambda _text: None,
) -> Replay:
    """Find the cause of a spike by experiment, and write it down beside the run.

    `step` is that of the newest spike by default. Nothing of the run is touched. Raises UsageError
    or BookError for what cannot be repeated, ReplayFailed where the repetition is another run.
    """
    run = open_run(book, name)
    events = read_events(run)
    _refuse_unready(run, events)
    if step is None:
        step = newest_spike(run, events)
    recorded = {record.step for record in events.steps}
    if step not in recorded:
        raise UsageError(
            f"run {name} has no step {step}: it recorded steps {min(recorded)} to {max(recorded)}"
        )
    _, environment = read_resolved(read_text(run.resolved_yaml))
    checkpoint, start = nearest_start(run, environment, step)
    last = min(step + steps_after, events.fact("steps") or step + steps_after)
    say(_announcement(run, events, start, step, last, checkpoint))
    # What comes now takes seconds to import.
    from tunebook.workflows.repeat import repeat

    log = _log_with_parent(run, events, environment)
    fork = resumed_from(environment)
    before = Before(start + 1, False, fork[1] if fork else None, _clip_before(environment))
    found = repeat(run, log, checkpoint, step, last, before, say)
    done = write_replay(run, found)
    build_notebook(book, say)
    return done


def newest_spike(run: RunFolder, events: Events) -> int:
    """Give the step of the newest spike that the detectors found; UsageError without any."""
    found = diagnose_run(run, events).verdicts
    steps = [v.step for v in found if v.kind in SPIKES and v.step is not None]
    if not steps:
        raise UsageError(
            f"run {run.name} has no spike among its verdicts; name a step with --step n"
        )
    return max(steps)


def nearest_start(
    run: RunFolder, environment: dict[str, Any], step: int
) -> tuple[Path | None, int]:
    """Find the checkpoint from which a step is repeated, and its step; None and 0 is the start.

    It leaves room for what is changed before the step, unless that is far away. Raises BookError
    when nothing whole is left before the step, as in a fork that lost what it began with.
    """
    starts: list[tuple[int, Path | None]] = [
        (checkpoint_step(path), path) for path in list_checkpoints(run)
    ]
    if resumed_from(environment) is None:
        starts.insert(0, (0, None))
    starts = [start for start in reversed(starts) if start[0] < step]
    near = [start for start in starts if step - start[0] <= _FAR]
    roomy = [start for start in near if start[0] <= step - 1 - LEAD]
    if not roomy:  # all there is in reach, the earliest first
        roomy = list(reversed(near))
    problems = []
    for at, path in dict.fromkeys((*roomy, *near, *starts)):
        try:
            if path is not None:
                verify_checkpoint(path)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return path, at
    why = f" ({'; '.join(problems)})" if problems else ""
    raise BookError(
        f"run {run.name} has no whole checkpoint before step {step} to repeat it from{why}; keep "
        "more of them with checkpoint.keep"
    )


def _refuse_unready(run: RunFolder, events: Events) -> None:
    state = current_state(run, events)
    if state == "running":
        raise BookError(
            f"run {run.name} is being trained; replay it when it is over, or `tunebook stop "
            f"{run.name}` lets it save and pause"
        )
    if not events.steps:
        raise BookError(
            f"run {run.name} has no steps to replay (it is {state}); `tunebook train {run.name}` "
            "makes them"
        )


def _announcement(
    run: RunFolder,
    events: Events,
    start: int,
    step: int,
    last: int,
    checkpoint: Path | None,
) -> str:
    """Say what is going to be computed, and how long about that takes by the steps of the run."""
    whole, tail = last - start, last - max(start, step - LEAD - 1)
    most = whole + _CHANGES * tail
    taken = [record.seconds for record in events.steps if record.seconds is not None]
    seconds = statistics.median(taken) if taken else 0.0
    origin = "the start" if checkpoint is None else f"the checkpoint of step {start}"
    return (
        f"{run.name}: step {step} is repeated from {origin}: {whole} steps as they were, then up "
        f"to {tail} for each of at most {_CHANGES} changes; {most} steps of {seconds:.2g} s take "
        f"about {format_seconds(most * seconds)}"
    )


def _log_with_parent(run: RunFolder, events: Events, environment: dict[str, Any]) -> RunLog:
    """Put the steps of the run that a fork went on from in front of its own."""
    fork = resumed_from(environment)
    earlier = []
    if fork is not None:
        parent = read_events(RunFolder(run.book, fork[0]))
        earlier = [record for record in parent.steps if record.step <= fork[1]]
    return RunLog([*earlier, *events.steps], events.validations, facts_of(run, events))


def _clip_before(environment: dict[str, Any]) -> float | None:
    """Read at what norm gradients were clipped before a fork changed it; None where it did not."""
    fork = environment.get("resumed_from")
    changed = fork.get("changed") if isinstance(fork, dict) else None
    found = changed.get("train.max_grad_norm") if isinstance(changed, dict) else None
    return float(found[0]) if isinstance(found, list) and found[0] is not None else None
