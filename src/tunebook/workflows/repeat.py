"""Steps of a run taken again in memory: first as they were, then with one change at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tunebook.book.places import RunFolder
from tunebook.book.plans import read_plan
from tunebook.data.batches import MicroBatch, collate
from tunebook.data.prepare import prepare
from tunebook.data.replaced import Replaced, find_others
from tunebook.errors import BookError, ModelError, ReplayFailed, UsageError
from tunebook.models.load import choose_device, choose_precision
from tunebook.models.tokenizer import load_tokenizer
from tunebook.records import StepRecord
from tunebook.step.schedule import rate_of_run
from tunebook.step.score import mean_loss, score_examples
from tunebook.step.update import StepOutOfMemory
from tunebook.train.loop import Training, training_steps
from tunebook.train.snapshot import Snapshot, put_back, take_snapshot
from tunebook.train.state import read_position
from tunebook.trials import Replay, Trial
from tunebook.watch.changes import LEAD, Before, Change, changes_to_try
from tunebook.watch.replay import (
    Course,
    Spike,
    judge_trial,
    name_cause,
    spike_at,
)
from tunebook.watch.run_log import RunLog
from tunebook.workflows.before import Run, build, make_training
from tunebook.workflows.changes import changed_data, changed_versions, changed_weights, words
from tunebook.workflows.train import library_versions
from tunebook.workflows.training import planned_sizes

_PROBE_ROWS = 8
_SHOWN_ROWS = 8
_SHOWN_CHARACTERS = 300
_SAME_NATS = 0.02
_SAME_FRACTION = 0.1


class _Repeated(Run):
    """A run that is only looked at: nothing is written down."""

    def __init__(self, folder: RunFolder, tell: Callable[[str], None]) -> None:
        super().__init__(folder, self, lambda: None)
        self._tell = tell

    def write(self, kind: str, payload: object) -> None:
        """Take nothing down."""

    def say(self, text: str) -> None:
        """Tell whoever asked for the replay."""
        self._tell(text)


def repeat(
    folder: RunFolder,
    log: RunLog,
    checkpoint: Path | None,
    step: int,
    last: int,
    before: Before,
    say: Callable[[str], None],
) -> Replay:
    """Take the steps up to `last` again from a checkpoint, or the start, and name the cause.

    Raises BookError or UsageError where the run cannot be repeated here or has no spike at the
    step, ReplayFailed where the control is not what was recorded.
    """
    began = time.monotonic()
    run = _open(folder, checkpoint, say)
    training, data = run.training, run.prepared.train
    rows = training.horizon.rows_of_step(step)
    others = find_others(data, rows, training.horizon.rows_of_step(last).stop)
    more = find_others(data, rows, max((*others.values(), rows.stop)) + 1)
    if not training.canary:
        behind = max((*others.values(), *more.values(), rows.stop)) + 1
        training = replace(training, canary=_probe(training, behind))
    before = replace(before, dropout=_has_dropout(training))
    changes, left_out = changes_to_try(log, step, before)
    if len(others) < len(rows):
        changes = [change for change in changes if not change.rows]
        left_out["other rows"] = f"its source has no {len(rows)} other rows to put in their place"
    spike = spike_at(log, step, last)
    wanted = {change.first_step for change in changes}
    control, kept, difference = _take_control(run, training, log, spike, before, wanted)
    measure = spike.measure(control)
    if measure is None:
        raise UsageError(_no_spike(run, spike, control))
    as_it_was = Change("control", "nothing", before.first_step, False)
    trials = [judge_trial(spike, measure, control, as_it_was, control)]
    by_name = {change.name: change for change in changes}
    for change in changes:
        # Where updates are too large any change of rows is a throw of dice: two of them must agree.
        draws = [others, more] if change.rows and len(more) == len(rows) else [others]
        came = []
        for draw in draws:
            put_back(training, kept[change.first_step])
            changed = _with(training, change, Replaced(data, draw, change.example))
            course = _take(changed, change.first_step, control, last)
            came.append(judge_trial(spike, measure, control, change, course))
        trials.append(max(came, key=lambda trial: trial.height))
        say(f"{change.words}: {_what_came(trials[-1])}")
    shown = _rows_of_step(run, log, step)
    return Replay(
        step=step,
        after_step=before.first_step - 1,
        last_step=last,
        difference=difference,
        measure=measure,
        trials=tuple(trials),
        left_out=left_out,
        rows=shown,
        verdict=name_cause(spike, measure, trials, by_name, shown),
        seconds=time.monotonic() - began,
    )


# --- as it was ----------------------------------------------------------------------------------


def _open(folder: RunFolder, checkpoint: Path | None, say: Callable[[str], None]) -> _Repeated:
    """Load a run as it stood after a checkpoint, or before step 1, on the device it had."""
    run = _Repeated(folder, say)
    recipe, name = run.recipe, folder.name
    position = read_position(checkpoint) if checkpoint else None
    devices = max(recipe.devices, position.devices if position else 1)
    if devices > 1:
        raise BookError(
            f"run {name} trained on {devices} devices; replay repeats steps on one device only, "
            "whose sums differ in their last digits"
        )
    device = choose_device(recipe.device)
    here = {"device": device, "precision": choose_precision(recipe.precision, device)}
    moved = {k: [run.environment[k], v] for k, v in here.items() if run.environment.get(k, v) != v}
    if moved:
        raise BookError(
            f"run {name} cannot be repeated here: {'; '.join(words(moved))}; replay it on the "
            "machine that it was trained on"
        )
    changed = changed_data(folder)
    if checkpoint is None or recipe.method != "full":
        changed |= changed_weights(folder, recipe, run.environment)
    if changed:
        raise BookError(
            f"run {name} cannot be repeated as it was: {'; '.join(words(changed))}; put that back"
        )
    run.codec = load_tokenizer(recipe.model, recipe.add_tokens, folder.cache_dir)
    run.prepared = prepare(recipe, run.codec, folder.cache_dir, say)
    if position is not None:
        run.micro_batch_size, checkpointing = planned_sizes(run, position)
    else:
        plan = read_plan(folder)
        run.micro_batch_size = plan.get("micro_batch_size")
        stated = recipe.train.gradient_checkpointing is True
        checkpointing = stated or plan.get("gradient_checkpointing") or False
    build(run, checkpoint, checkpointing)
    make_training(run)
    return run


def _take_control(
    run: Run,
    training: Training,
    log: RunLog,
    spike: Spike,
    before: Before,
    wanted: Iterable[int],
) -> tuple[Course, dict[int, Snapshot], float]:
    """Take the steps as they were; give what they came to, and the state before wanted steps.

    The third value is the largest difference from a recorded loss. Raises ReplayFailed as soon as
    one is too large to speak of the same run.
    """
    recorded = {record.step: record for record in log.steps}
    same_canary = bool(run.training.canary)
    allowed = max(_SAME_NATS, _SAME_FRACTION * (recorded[spike.step].loss - spike.level))
    control, kept, largest = Course(), {}, 0.0
    if same_canary:  # what was measured before the repetition begins
        control.canary.update(
            (record.step, record.canary_loss)
            for record in log.steps
            if record.step < before.first_step and record.canary_loss is not None
        )
    first, lead = before.first_step, spike.step - LEAD - 1
    if first - 1 >= lead:
        control.canary[first - 1] = _canary(training)
    if first in wanted:
        kept[first] = take_snapshot(training)
    for record in _steps(training, first, spike.last_step):
        control.loss[record.step] = record.loss
        if record.step >= lead:
            control.canary[record.step] = _canary(training)
        if record.step + 1 in wanted:
            kept[record.step + 1] = take_snapshot(training)
        then = recorded.get(record.step)
        if then is None:
            continue
        pairs = [("loss", record.loss, then.loss)]
        if same_canary and record.step in control.canary and then.canary_loss is not None:
            pairs.append(("canary", control.canary[record.step], then.canary_loss))
        for what, now, was in pairs:
            difference = _difference(now, was)
            largest = max(largest, difference)
            if not difference <= allowed:
                raise ReplayFailed(_not_the_same(run, record.step, what, now, was))
    run.say(
        f"control: steps {first} to {spike.last_step} as they were; the largest difference from a "
        f"recorded loss is {largest:.2g} nats"
    )
    return control, kept, largest


def _not_the_same(run: Run, step: int, what: str, now: float, was: float) -> str:
    then = run.environment.get("versions")
    versions = changed_versions(
        then if isinstance(then, dict) else {}, library_versions(run.recipe), run.recipe
    )
    why = f" (changed since: {', '.join(words(versions))})" if versions else ""
    return (
        f"run {run.run.name} does not repeat itself: the {what} of step {step} is {now:.6g}, and "
        f"{was:.6g} was recorded{why}; nothing can be said of causes until it does"
    )


def _no_spike(run: Run, spike: Spike, control: Course) -> str:
    return (
        f"step {spike.step} of run {run.run.name} is no spike: its loss stands "
        f"{spike.height(control, 'loss'):+.3g} nats from those before it and the canary rises "
        f"{spike.height(control, 'canary'):.3g} nats by step {spike.last_step}; name a step that "
        "is one with --step"
    )


def _take(training: Training, first: int, control: Course, last: int) -> Course:
    """Take steps from what the control had come to before them."""
    course = Course(
        {step: loss for step, loss in control.loss.items() if step < first},
        {step: loss for step, loss in control.canary.items() if step < first},
    )
    for record in _steps(training, first, last):
        course.loss[record.step] = record.loss
        course.canary[record.step] = _canary(training)
    return course


def _steps(training: Training, first: int, last: int) -> Iterator[StepRecord]:
    try:
        for record in training_steps(training, first):
            yield record
            if record.step == last:
                return
    except StepOutOfMemory as error:
        failed = error.with_traceback(None)
    else:
        return
    raise ModelError(
        f"step {failed.step} ran out of memory when it was repeated ({failed.tokens:,} tokens); "
        "free memory, or use a larger device"
    )


def _canary(training: Training) -> float:
    return mean_loss(score_examples(training.loaded, training.scorer, training.canary))


# --- with one change ----------------------------------------------------------------------------


def _with(training: Training, change: Change, replaced: Replaced) -> Training:
    """Give what a change trains with."""
    recipe = training.recipe
    if change.max_grad_norm is not None:
        clipped = recipe.train.model_copy(update={"max_grad_norm": change.max_grad_norm})
        recipe = recipe.model_copy(update={"train": clipped})
    if change.another_seed:  # of dropout alone: the order of rows was drawn with the run's own
        recipe = recipe.model_copy(update={"seed": recipe.seed + 1})

    def rate(step: int) -> float:
        usual = rate_of_run(training.recipe, step, training.horizon.total_steps)
        return min(usual, change.rate_at_most) * change.rate_share

    data = replaced if change.rows else training.data
    return replace(training, recipe=recipe, rate=rate, data=data)


def _probe(training: Training, behind: int) -> tuple[MicroBatch, ...]:
    """Take rows of later steps in the place of a canary where nothing was held out."""
    rows = [training.data.row(index) for index in range(behind, behind + _PROBE_ROWS)]
    return tuple(collate(row) for row in rows)


def _has_dropout(training: Training) -> bool:
    """Tell whether a seed changes what a step computes: attention drops out by its config."""
    modules = training.loaded.network.modules()
    dropped = any(type(m).__name__ == "Dropout" and getattr(m, "p", 0) > 0 for m in modules)
    config = training.loaded.causal.config.to_dict()
    named = [value for key, value in config.items() if "drop" in key]
    return dropped or any(isinstance(value, float) and value > 0 for value in named)


def _rows_of_step(run: Run, log: RunLog, step: int) -> dict[str, str]:
    """Decode the ends of a step's examples, the highest loss first, at most eight of them."""
    [record] = [one for one in log.steps if one.step == step]
    losses = {e.id: e.loss_sum / max(e.target_tokens, 1) for e in record.examples}
    rows = run.training.horizon.rows_of_step(step)
    examples = [e for index in rows for e in run.prepared.train.row(index)]
    examples.sort(key=lambda e: -losses.get(e.tokens.id, 0.0))
    return {
        e.tokens.id: run.codec.decode(e.tokens.ids)[-_SHOWN_CHARACTERS:]
        for e in examples[:_SHOWN_ROWS]
    }


def _difference(now: float, was: float) -> float:
    if math.isfinite(now) and math.isfinite(was):
        return abs(now - was)
    return 0.0 if str(now) == str(was) else math.inf


def _what_came(trial: Trial) -> str:
    removed = "removes the spike" if trial.removed else "does not remove it"
    return f"{removed} ({trial.height:.3g} nats)"
