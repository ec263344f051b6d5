"""What happens in a run, in order; the story of `tunebook train` after the launcher's part."""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator

from tunebook.book.checkpoints import (
    checkpoint_step,
    clear_stale_folders,
    list_checkpoints,
    mark_best,
    newest_good_checkpoint,
    refuse_without_room,
    rotate_checkpoints,
    writing_checkpoint,
    writing_folder,
)
from tunebook.book.events import EventWriter, read_events
from tunebook.book.places import RunFolder
from tunebook.book.plans import read_plan, write_plan
from tunebook.book.run_file import resumed_from
from tunebook.errors import RunEnded
from tunebook.models.load import choose_device
from tunebook.records import Sample, StepRecord, ValidationRecord
from tunebook.step.horizon import shared_size
from tunebook.step.peak import peak_bytes
from tunebook.step.score import score_examples, validation_record
from tunebook.step.team import join_team
from tunebook.step.update import StepOutOfMemory
from tunebook.train.loop import training_steps
from tunebook.train.state import (
    Position,
    copy_state,
    read_position,
    state_bytes,
    write_state,
    write_weights,
)
from tunebook.workflows.activations import say_if_not_kept
from tunebook.workflows.before import (
    Run,
    answer,
    build,
    describe,
    make_training,
    plan_run,
    prepare_data,
    record_start,
    refuse_fewer_steps,
    refuse_other_start,
    take_up,
    validation_batches_of,
)
from tunebook.workflows.findings import conclude, look_at_log, look_at_step, weights_are_finite
from tunebook.workflows.out_of_memory import take_smaller, way_out
from tunebook.workflows.run_data import write_trained
from tunebook.workflows.saving import writes_aside
from tunebook.workflows.speed import Meter


def run_to_end(
    folder: RunFolder,
    events: EventWriter,
    stop_code: Callable[[], int | None],
    beat: Callable[[], None],
    *,
    many: bool = False,
) -> None:
    """Train a run from its newest good checkpoint, or from the start, to its end.

    Raises RunEnded when it pauses or a verdict stops it, any other TunebookError when it fails.
    """
    run = Run(folder, events, beat)
    if many:
        run.team = join_team(choose_device(run.recipe.device))
    try:
        _run_to_end(run, stop_code)
    except BaseException:
        # How the run ended matters more than what was found in it, and is written down before: of
        # a run that must pause, its process may be ended at any moment.
        with contextlib.suppress(Exception):
            run.writer.finish()
        with contextlib.suppress(Exception):
            _conclude(run)
        raise
    finally:
        run.team.close()


def _conclude(run: Run) -> None:
    if hasattr(run, "looks") and not run.concluded:
        run.concluded = True
        conclude(run)


def _run_to_end(run: Run, stop_code: Callable[[], int | None]) -> None:
    folder, events = run.run, run.events
    checkpoint, bad = newest_good_checkpoint(folder)
    position = read_position(checkpoint) if checkpoint else None
    done = position.step if position else 0
    start = refuse_other_start(run, checkpoint)
    events.write("state", {"state": "running", "step": done})
    run.before = read_events(folder)
    for sentence in bad:
        run.say(f"set aside: {sentence}")
    _set_aside_damaged(folder, done)
    record_start(run, checkpoint)
    prepare_data(run, stop_code, done)
    if checkpoint is not None and position is not None:
        run.micro_batch_size, checkpointing = planned_sizes(run, position)
        build(run, checkpoint, checkpointing)
        take_up(run, checkpoint, position)
    else:
        plan_run(run)
    make_training(run)
    refuse_fewer_steps(run, done)
    describe(run)
    meter = Meter(run, done)
    run.begun = time.monotonic()
    if not any(v.step == start for v in run.before.validations):
        _validate(run, start)
    _sample(run, start)
    for record in _steps(run, meter, done + 1):
        events.write("step", record)
        run.beat()
        _after_step(run, record)
        run.team.tell("stop?")
        code = run.team.most(stop_code() or 0)
        if code and record.step < run.training.horizon.total_steps:
            _save(run, record.step, "stop requested")
            reason = f"stopped after step {record.step}; `tunebook resume {folder.name}` goes on"
            events.write("state", {"state": "paused", "reason": reason, "step": record.step})
            raise RunEnded(reason, code)
    _finish(run)


def planned_sizes(run: Run, position: Position) -> tuple[int | None, bool | int]:
    """Give micro-batch size and gradient checkpointing as a checkpoint was trained with them."""
    plan, train = read_plan(run.run), run.recipe.train
    size, checkpointing = position.micro_batch_size, position.gradient_checkpointing
    if size is None:
        size = plan.get("micro_batch_size")
    if size is None and train.micro_batch_size == "auto":
        run.say(
            "plan.json is gone, so micro-batches may have another size than before and the "
            "weights may differ in their last digits"
        )
    if size is not None and position.devices != run.team.size:
        size = shared_size(train.effective_batch_size, size, run.team.size)
        run.say(
            f"goes on with devices: {run.team.size} where it had {position.devices}, so the "
            "weights may differ in their last digits from those of an uninterrupted run"
        )
    if checkpointing is None:
        checkpointing = train.gradient_checkpointing is True or plan.get("gradient_checkpointing")
    return size, checkpointing or False


def _steps(run: Run, meter: Meter, step: int) -> Iterator[StepRecord]:
    """Train from a step on, with smaller micro-batches from where one runs out of memory."""
    while True:
        try:
            steps = training_steps(run.training, step)
            while (record := _next(run, meter, steps, step)) is not None:
                step = record.step + 1
                yield record
            return
        except StepOutOfMemory as error:
            failed = error.with_traceback(None)  # its frames hold tensors
        if not take_smaller(run, failed):
            _pause_without_memory(run, failed)


def _next(run: Run, meter: Meter, steps: Iterator[StepRecord], step: int) -> StepRecord | None:
    """Take a step with all ranks of the team."""
    with run.team.together("step", step=step):
        return meter.take(step, lambda: next(steps, None))


def _pause_without_memory(run: Run, failed: StepOutOfMemory) -> None:
    step = failed.step - 1
    # Of a team the others stand in the middle of the step and would not save with this rank.
    if step and run.team.alone and not (run.run.checkpoints / f"step-{step}").exists():
        _save(run, step, "out of memory")
    reason = way_out(run, failed)
    run.events.write("state", {"state": "paused", "reason": reason, "step": step})
    raise RunEnded(reason, 1)


def _set_aside_damaged(folder: RunFolder, good_step: int) -> None:
    """Rename checkpoints newer than the good one, so that rotation never keeps one of them."""
    for path in list_checkpoints(folder):
        if checkpoint_step(path) > good_step:
            target = path.with_name(f".bad-{path.name}")
            shutil.rmtree(target, ignore_errors=True)
            path.rename(target)
    if folder.best.is_symlink() and not folder.best.exists():
        folder.best.unlink()


# --- between steps ------------------------------------------------------------------------------


def _after_step(run: Run, record: StepRecord) -> None:
    recipe, horizon = run.recipe, run.training.horizon
    run.writer.look()
    say_if_not_kept(run)
    reason = look_at_step(run, record)
    if reason is not None:
        _stop_by_verdict(run, record, reason)
    last = record.step == horizon.total_steps
    improved = validated = False
    if last or horizon.due(recipe.evaluate.every, record.step):
        found = _validate(run, record.step)
        validated = found is not None
        # A loss that is not finite is never the best: nothing would be below it afterwards.
        if found is not None and math.isfinite(found.loss):
            improved = run.best is None or found.loss < run.best[1]
            if improved:
                run.best = (record.step, found.loss)
    if improved:
        _save(run, record.step, "best so far", aside=not last, best=True)
    elif last or horizon.due(recipe.checkpoint.every, record.step):
        _save(run, record.step, "last step" if last else "interval", aside=not last)
    reason = look_at_log(run, record, validated=validated)
    if reason is not None:
        _stop_by_verdict(run, record, reason)


def _stop_by_verdict(run: Run, record: StepRecord, reason: str) -> None:
    # Weights that are no numbers would be the newest checkpoint, in place of the last good one.
    if weights_are_finite(record):
        _save(run, record.step, "stopped by a verdict")
    run.events.write("state", {"state": "stopped", "reason": reason, "step": record.step})
    raise RunEnded(reason, 1)


def _save(
    run: Run, step: int, reason: str, *, aside: bool | None = None, best: bool = False
) -> None:
    """Save a step, and say so once it is durable.

    `aside` lets training go on meanwhile, where the run asks for it; None is of a run that ends
    here, whose older checkpoints all stay.
    """
    began, held = time.monotonic(), 0.0
    run.writer.finish()
    horizon = run.training.horizon
    position = Position(
        step=step,
        total_steps=horizon.total_steps,
        next_row=horizon.rows_of_step(step).stop,
        seed=run.recipe.seed,
        recipe=run.recipe.model_dump(mode="json"),
        non_finite_steps=run.non_finite_steps,
        best_step=run.best[0] if run.best else None,
        best_loss=run.best[1] if run.best else None,
        micro_batch_size=horizon.micro_batch_size,
        gradient_checkpointing=run.gradient_checkpointing,
        devices=run.team.size,
    )
    run.beat()
    needs = state_bytes(run.loaded, run.optimization, run.holders)
    refuse_without_room(run.run, step, needs)
    copied = None
    if aside and writes_aside(run.recipe, run.loaded.device.type, run.team.size, needs):
        copied = copy_state(run.loaded, run.optimization)

    def write() -> None:
        with (
            writing_checkpoint(run.run, step) as folder,
            run.holders.together("save", folder=str(folder)),
        ):
            write_state(folder, run.loaded, run.optimization, position, run.holders, copied)

    def announce() -> None:
        run.events.write("checkpoint", {"step": step, "reason": reason, "seconds": held})
        if best:
            mark_best(run.run, step)
        if aside is not None:
            _rotate(run)

    # `held` is how long training stood still for it.
    if copied is not None:
        held = time.monotonic() - began
        run.writer.begin(write, announce)
        return
    write()
    held = time.monotonic() - began
    announce()


def _rotate(run: Run) -> None:
    protect = {run.best[0]} if run.best else set()
    fork = resumed_from(run.environment)
    if fork is not None:  # it has no other start to be repeated from
        protect.add(fork[1])
    rotate_checkpoints(run.run, run.recipe.checkpoint.keep, protect)


def _validate(run: Run, step: int) -> ValidationRecord | None:
    if run.prepared.validation is None or run.prepared.validation_hash is None:
        return None
    started = time.monotonic()
    with run.team.together("validate"):
        scored = score_examples(
            run.loaded, run.training.scorer, validation_batches_of(run), run.team
        )
    record = validation_record(
        scored,
        step=step,
        documents=run.documents,
        scored_bytes=run.validation_bytes,
        examples_hash=run.prepared.validation_hash,
        started=started,
    )
    run.events.write("validation", record)
    run.looks.add_validation(record)
    return record


def _sample(run: Run, step: int) -> None:
    asked = {(s.step, s.prompt) for s in run.before.samples}
    for number, prompt in enumerate(run.prompts):
        if (step, prompt.text) in asked:
            continue
        with run.holders.together("answer", prompt=number):
            new = answer(run, number)
        run.events.write(
            "sample",
            Sample(
                step,
                prompt.text,
                run.codec.decode(new),
                prompt.reference,
                f"greedy, at most {run.recipe.evaluate.max_new_tokens} tokens",
            ),
        )
        run.beat()


# --- after the last step ------------------------------------------------------------------------


def _finish(run: Run) -> None:
    total = run.training.horizon.total_steps
    _sample(run, total)
    if run.loaded.merger is not None:
        run.loaded.merger.merge(total)  # what is left is a plain model
    with (
        writing_folder(run.run.final) as folder,
        run.holders.together("final", folder=str(folder)),
    ):
        write_weights(folder, run.loaded, run.optimization, run.holders)
    clear_stale_folders(run.run)
    write_trained(run.run)
    write_plan(run.run, {**read_plan(run.run), "measured": _measured(run)})
    _conclude(run)
    run.events.write("state", {"state": "finished", "step": total})
    print(f"finished after step {total}", file=sys.stderr)


def _measured(run: Run) -> dict[str, float | None]:
    """Give what the run came to, for its plan to be held against; None is not measured.

    Peaks are of training, from the look at the longest micro-batch on; `loading_peak_bytes` is the
    one before, when tokens were made and the weights read.
    """
    device = run.loaded.device
    on_cuda = device.type == "cuda"
    peak = peak_bytes(device)
    whole = not run.before.steps  # a run that was interrupted was not timed as a whole
    return {
        "train_peak_bytes": peak if on_cuda else None,
        "resident_peak_bytes": None if on_cuda else peak,
        "loading_peak_bytes": run.loading_peak_bytes,
        "seconds": time.monotonic() - run.begun if whole else None,
        "disk_bytes": sum(p.stat().st_size for p in run.run.path.rglob("*") if p.is_file()),
    }
