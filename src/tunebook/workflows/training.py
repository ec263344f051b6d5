"""What happens in a run, in order; the story of `tunebook train` after the launcher's part."""

from __future__ import annotations

import hashlib
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tunebook.book.checkpoints import (
    checkpoint_step,
    list_checkpoints,
    mark_best,
    newest_good_checkpoint,
    refuse_without_room,
    rotate_checkpoints,
    writing_checkpoint,
    writing_folder,
)
from tunebook.book.events import Events, EventWriter, read_events
from tunebook.book.places import RunFolder
from tunebook.data.batches import MicroBatch, validation_batches
from tunebook.data.build import Progress, Speaker
from tunebook.data.prepare import Prepared
from tunebook.errors import CheckpointError, ModelError, RunEnded
from tunebook.models.generate import GREEDY, generate_greedy
from tunebook.models.load import (
    LoadedModel,
    add_lora,
    choose_device,
    choose_precision,
    load_adapter,
    load_model,
    save_weights,
)
from tunebook.models.tokenizer import Codec, load_tokenizer
from tunebook.recipe.load import read_resolved
from tunebook.recipe.tree import Recipe
from tunebook.records import Sample, StepRecord, ValidationRecord
from tunebook.step.check import choose_scorer
from tunebook.step.horizon import batches_of_step, plan_horizon
from tunebook.step.optimization import Optimization
from tunebook.step.score import score_examples, validation_record
from tunebook.train.loop import Training, training_steps
from tunebook.train.state import (
    Position,
    read_optimizer,
    read_position,
    state_bytes,
    write_state,
)
from tunebook.workflows.findings import look_at_step
from tunebook.workflows.prompts import Prompt, choose_prompts
from tunebook.workflows.run_data import prepare_run_data, write_trained

_VALIDATION_TOKENS_PER_BATCH = 8192


class Run:
    """One run while it trains: the parts that meet in it, and what it has seen so far."""

    def __init__(self, run: RunFolder, events: EventWriter, beat: Callable[[], None]) -> None:
        self.run, self.events, self.beat = run, events, beat
        text = run.resolved_yaml.read_text(encoding="utf-8")
        self.recipe: Recipe
        self.recipe, self.environment = read_resolved(text)
        self.before: Events  # read once this attempt has begun: what it will repeat is hidden
        self.recipe_hash = hashlib.sha256(self.recipe.model_dump_json().encode()).hexdigest()
        self.non_finite_steps = 0
        self.best: tuple[int, float] | None = None
        self.codec: Codec
        self.prepared: Prepared
        self.training: Training
        self.prompts: list[Prompt]
        self.documents: dict[str, str] = {}
        self.validation_bytes = 0

    def say(self, text: str) -> None:
        """Tell whoever watches what is going on."""
        print(text, flush=True)
        self.events.write("note", {"text": text})
        self.beat()

    @property
    def loaded(self) -> LoadedModel:
        """The model being trained."""
        return self.training.loaded


def run_to_end(
    folder: RunFolder,
    events: EventWriter,
    stop_code: Callable[[], int | None],
    beat: Callable[[], None],
) -> None:
    """Train a run from its newest good checkpoint, or from the start, to its end.

    Raises RunEnded when it pauses or a verdict stops it, any other TunebookError when it fails.
    """
    run = Run(folder, events, beat)
    checkpoint, bad = newest_good_checkpoint(folder)
    position = read_position(checkpoint) if checkpoint else None
    done = position.step if position else 0
    events.write("state", {"state": "running", "step": done})
    run.before = read_events(folder)
    for sentence in bad:
        run.say(f"set aside: {sentence}")
    _set_aside_damaged(folder, done)
    _prepare_data(run, stop_code, done)
    _build(run, checkpoint, position)
    _describe(run)
    if not any(v.step == 0 for v in run.before.validations):
        _validate(run, 0)
    _sample(run, 0)
    for record in training_steps(run.training, done + 1):
        events.write("step", record)
        beat()
        _after_step(run, record)
        code = stop_code()
        if code is not None and record.step < run.training.horizon.total_steps:
            _save(run, record.step, "stop requested")
            reason = f"stopped after step {record.step}; `tunebook resume {folder.name}` goes on"
            events.write("state", {"state": "paused", "reason": reason, "step": record.step})
            raise RunEnded(reason, code)
    _finish(run)


def _set_aside_damaged(folder: RunFolder, good_step: int) -> None:
    """Rename checkpoints newer than the good one, so that rotation never keeps one of them."""
    for path in list_checkpoints(folder):
        if checkpoint_step(path) > good_step:
            target = path.with_name(f".bad-{path.name}")
            shutil.rmtree(target, ignore_errors=True)
            path.rename(target)
    if folder.best.is_symlink() and not folder.best.exists():
        folder.best.unlink()


# --- before step 1 ------------------------------------------------------------------------------


def _prepare_data(run: Run, stop_code: Callable[[], int | None], done: int) -> None:
    speak = Speaker(run.say)

    def watch(progress: Progress) -> None:
        run.beat()
        speak(progress)
        code = stop_code()
        if code is not None:
            name = run.run.name
            reason = f"stopped while tokenizing; `tunebook resume {name}` goes on where it was"
            run.events.write("state", {"state": "paused", "reason": reason, "step": done})
            raise RunEnded(reason, code)

    run.codec = load_tokenizer(run.recipe.model)
    run.prepared = prepare_run_data(
        run.run, run.recipe, run.environment, run.codec, run.before, run.say, watch
    )
    validation = run.prepared.validation
    if validation is not None:
        for index in range(len(validation)):
            example = validation.example(index)
            run.documents[example.id] = example.document
            run.validation_bytes += example.scored_bytes


def _build(run: Run, folder: Path | None, position: Position | None) -> None:
    recipe = run.recipe
    device = choose_device(recipe.device)
    precision = choose_precision(recipe.precision, device)
    base = str(folder) if folder and recipe.method == "full" else recipe.model
    loaded = load_model(base, device=device, precision=precision, attention=recipe.attention)
    # Its tokenizer is saved with the weights: a checkpoint's folder will be gone by then.
    loaded = replace(loaded, folder=run.codec.folder)
    _refuse_rows_beyond_context(run, loaded)
    # Checked before an adapter is added: a fresh one changes nothing, and the check stays plain.
    scorer = choose_scorer(loaded, run.codec.vocab_size)
    if recipe.method == "lora":
        start = folder or run.environment.get("adapter")
        loaded = (
            load_adapter(loaded, Path(str(start)))
            if start
            else add_lora(loaded, recipe.lora, recipe.model, recipe.seed)
        )
        if hasattr(loaded.causal.get_output_embeddings(), "base_layer"):
            # The direct head reads the frozen weight and would leave the adapter on it untrained.
            scorer = replace(scorer, direct_head=False)
    optimization = Optimization(loaded.trainable(), recipe.train)
    if folder and position:
        if position.recipe_hash != run.recipe_hash:
            raise CheckpointError(
                f"run {run.run.name}: resolved.yaml changed since {folder.name} was written; put "
                "it back, or start a new run with `extends`"
            )
        read_optimizer(folder, optimization)
        run.non_finite_steps = position.non_finite_steps
        best, loss = position.best_step, position.best_loss
        # A best that was damaged and set aside is gone; the next evaluation makes a new one.
        if best is not None and loss is not None and (folder.parent / f"step-{best}").is_dir():
            run.best = (best, loss)
            mark_best(run.run, best)
        if not any(c["step"] == position.step for c in run.before.checkpoints):
            run.events.write("checkpoint", {"step": position.step, "reason": "found on resume"})
    horizon = plan_horizon(recipe, run.prepared.train)
    canary = tuple(_validation_batches(run, limit=recipe.evaluate.canary))
    run.training = Training(
        recipe, loaded, scorer, optimization, run.prepared.train, horizon, canary
    )
    run.prompts = choose_prompts(recipe, run.codec, run.prepared)


def _refuse_rows_beyond_context(run: Run, loaded: LoadedModel) -> None:
    longest = run.prepared.longest
    if loaded.context_length is not None and longest > loaded.context_length:
        raise ModelError(
            f"max_seq_len {run.recipe.max_seq_len}: the longest row has {longest} tokens, and "
            f"{run.recipe.model} reads at most {loaded.context_length}; set max_seq_len: "
            f"{loaded.context_length}"
        )


def _describe(run: Run) -> None:
    """Record what is about to be trained: counts, sizes, the first batch as the model sees it."""
    training, horizon = run.training, run.training.horizon
    first = batches_of_step(training.data, horizon, 1)
    run.events.write(
        "facts",
        {
            "parameters": training.loaded.counts(),
            "device": str(training.loaded.device),
            "precision": "bf16 with fp32 master weights"
            if training.optimization.uses_masters
            else "fp32",
            "attention": "flat rows, per document" if training.scorer.flat else "the model's own",
            "steps": horizon.total_steps,
            "rows_per_epoch": horizon.rows_per_epoch,
            "effective_batch_size": horizon.effective_batch_size,
            "micro_batch_size": horizon.micro_batch_size,
            "gradient_accumulation_steps": horizon.effective_batch_size // horizon.micro_batch_size,
            "tokens_per_epoch": run.prepared.train.tokens_per_epoch,
            "target_tokens_per_epoch": run.prepared.train.target_tokens_per_epoch,
            "context_length": training.loaded.context_length,
            "first_batch": [line for batch in first[:1] for line in _marked(run.codec, batch)][:8],
        },
    )


def _marked(codec: Codec, batch: MicroBatch) -> list[dict[str, str]]:
    """Decode a batch, runs of target tokens between double brackets."""
    lines, start = [], 0
    for example_id, length in zip(batch.example_ids, batch.lengths, strict=True):
        ids = batch.ids[start : start + length].tolist()
        target = batch.target[start : start + length].tolist()
        text, piece = "", 0
        for stop in range(1, length + 1):
            if stop == length or target[stop] != target[piece]:
                words = codec.decode(ids[piece:stop])
                text += f"⟦{words}⟧" if target[piece] else words
                piece = stop
        lines.append({"example": example_id, "text": text})
        start += length
    return lines


# --- between steps ------------------------------------------------------------------------------


def _after_step(run: Run, record: StepRecord) -> None:
    recipe, horizon = run.recipe, run.training.horizon
    reason = look_at_step(run, record)
    if reason is not None:
        _stop_by_verdict(run, record.step, reason)
    last = record.step == horizon.total_steps
    improved = False
    if last or horizon.due(recipe.evaluate.every, record.step):
        found = _validate(run, record.step)
        # A loss that is not finite is never the best: nothing would be below it afterwards.
        if found is not None and math.isfinite(found.loss):
            improved = run.best is None or found.loss < run.best[1]
            if improved:
                run.best = (record.step, found.loss)
    if improved:
        _save(run, record.step, "best so far")
        mark_best(run.run, record.step)
        _rotate(run)
    elif last or horizon.due(recipe.checkpoint.every, record.step):
        _save(run, record.step, "last step" if last else "interval")
        _rotate(run)


def _stop_by_verdict(run: Run, step: int, reason: str) -> None:
    _save(run, step, "stopped by a verdict")
    run.events.write("state", {"state": "stopped", "reason": reason, "step": step})
    raise RunEnded(reason, 1)


def _save(run: Run, step: int, reason: str) -> None:
    horizon = run.training.horizon
    position = Position(
        step=step,
        total_steps=horizon.total_steps,
        next_row=horizon.rows_of_step(step).stop,
        seed=run.recipe.seed,
        recipe_hash=run.recipe_hash,
        non_finite_steps=run.non_finite_steps,
        best_step=run.best[0] if run.best else None,
        best_loss=run.best[1] if run.best else None,
    )
    run.beat()
    refuse_without_room(run.run, step, state_bytes(run.loaded, run.training.optimization))
    with writing_checkpoint(run.run, step) as folder:
        write_state(folder, run.loaded, run.training.optimization, position)
    run.events.write("checkpoint", {"step": step, "reason": reason})


def _rotate(run: Run) -> None:
    protect = {run.best[0]} if run.best else set()
    rotate_checkpoints(run.run, run.recipe.checkpoint.keep, protect)


def _validation_batches(run: Run, limit: int | None = None) -> list[MicroBatch]:
    validation = run.prepared.validation
    if validation is None or limit == 0:
        return []
    batches = validation_batches(validation, _VALIDATION_TOKENS_PER_BATCH, limit=limit)
    return list(batches)


def _validate(run: Run, step: int) -> ValidationRecord | None:
    if run.prepared.validation is None or run.prepared.validation_hash is None:
        return None
    started = time.monotonic()
    scored = score_examples(run.loaded, run.training.scorer, _validation_batches(run))
    record = validation_record(
        scored,
        step=step,
        documents=run.documents,
        scored_bytes=run.validation_bytes,
        examples_hash=run.prepared.validation_hash,
        started=started,
    )
    run.events.write("validation", record)
    return record


def _sample(run: Run, step: int) -> None:
    asked = {(s.step, s.prompt) for s in run.before.samples}
    for prompt in run.prompts:
        if (step, prompt.text) in asked:
            continue
        new = generate_greedy(
            run.loaded, prompt.ids, run.recipe.evaluate.max_new_tokens, run.codec.eos_id
        )
        run.events.write(
            "sample",
            Sample(
                step,
                prompt.text,
                run.codec.decode(new),
                prompt.reference,
                f"{GREEDY}, at most {run.recipe.evaluate.max_new_tokens} tokens",
            ),
        )
        run.beat()


# --- after the last step ------------------------------------------------------------------------


def _finish(run: Run) -> None:
    total = run.training.horizon.total_steps
    _sample(run, total)
    with writing_folder(run.run.final) as folder:
        save_weights(run.loaded, folder)
    write_trained(run.run)
    run.events.write("state", {"state": "finished", "step": total})
    print(f"finished after step {total}", file=sys.stderr)
