"""What happens in a run before its first step: data, plan, model, and what is written of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tunebook.book.atomic import write_atomically
from tunebook.book.checkpoints import mark_best
from tunebook.book.content import weights_hash
from tunebook.book.events import Events
from tunebook.book.places import RunFolder
from tunebook.book.plans import read_plan, write_plan
from tunebook.book.run_file import resumed_from
from tunebook.data.batches import MicroBatch, validation_batches
from tunebook.data.build import Progress, Speaker
from tunebook.data.prepare import Prepared
from tunebook.errors import DefectError, PlanRefused, ResumeRefused, RunEnded
from tunebook.models.checkpointing import set_checkpointing
from tunebook.models.find import find_model
from tunebook.models.generate import Continuation, Sampling, end_ids, generate
from tunebook.models.load import LoadedModel, choose_device, choose_precision
from tunebook.models.skeleton import WeightFiles, load_config
from tunebook.models.tokenizer import Codec, load_tokenizer
from tunebook.plan.batch_shapes import Sizes
from tunebook.plan.devices import parse_device
from tunebook.plan.probe import Probe
from tunebook.plan.result import fault_of, plan_json, refusal_reason
from tunebook.recipe.load import dump_resolved, read_resolved
from tunebook.recipe.tree import Recipe
from tunebook.recipe.yaml_text import read_text
from tunebook.step.forward import Scorer
from tunebook.step.horizon import batches_of_step, plan_horizon
from tunebook.step.optimization import Optimization
from tunebook.step.peak import peak_bytes, reset_peak
from tunebook.step.sharding import with_root
from tunebook.step.team import ALONE, Team
from tunebook.train.loop import Training
from tunebook.train.state import Position, read_optimizer
from tunebook.watch.looks import Looks
from tunebook.workflows.activations import describe_cache, keep_activations
from tunebook.workflows.changes import words
from tunebook.workflows.model import build_model
from tunebook.workflows.planning import (
    VALIDATION_TOKENS_PER_BATCH,
    Known,
    make_plan,
    refuse_optimizer,
    try_longest,
)
from tunebook.workflows.prompts import Prompt, choose_prompts
from tunebook.workflows.run_data import prepare_run_data, unread_tokens
from tunebook.workflows.run_log import facts_of
from tunebook.workflows.saving import Writer


class Recorder(Protocol):
    """Takes down what happens in a run; the ranks of a team beside the first have none to."""

    def write(self, kind: str, payload: object) -> None:
        """Take down one event."""


class Run:
    """One run while it trains: the parts that meet in it, and what it has seen so far."""

    def __init__(self, run: RunFolder, events: Recorder, beat: Callable[[], None]) -> None:
        self.run, self.events, self.beat = run, events, beat
        self.team = ALONE
        text = read_text(run.resolved_yaml)
        self.recipe: Recipe
        self.recipe, self.environment = read_resolved(text)
        self.before: Events  # read once this attempt has begun: what it will repeat is hidden
        self.looks: Looks
        self.concluded = self.undiagnosed = False
        self.writer = Writer()
        self.non_finite_steps = 0
        self.best: tuple[int, float] | None = None
        self.codec: Codec
        self.prepared: Prepared
        self.loaded: LoadedModel
        self.scorer: Scorer
        self.optimization: Optimization
        self.micro_batch_size: int | None = None
        self.gradient_checkpointing: bool | int
        self.loading_peak_bytes: int
        self.training: Training
        self.begun: float
        self.prompts: list[Prompt]
        self.documents: dict[str, str] = {}
        self.validation_bytes = 0

    @property
    def holders(self) -> Team:
        """Those who must come together to read the weights: this process alone, if it has all."""
        return self.team if self.optimization.sharded else ALONE

    def say(self, text: str) -> None:
        """Tell whoever watches what is going on."""
        print(text, flush=True)
        self.events.write("note", {"text": text})
        self.beat()


def refuse_other_start(run: Run, checkpoint: Path | None) -> int:
    """Give the step a run begins with: 0, or that of the checkpoint that a fork went on from.

    Raises ResumeRefused where it began on another kind of device or in another precision, or where
    a fork has lost what it began with.
    """
    now = _device(run.recipe)
    changed = {k: [run.environment[k], v] for k, v in now.items() if run.environment.get(k, v) != v}
    name = run.run.name
    if changed:
        raise ResumeRefused(
            f"run {name} cannot go on as it began: {'; '.join(words(changed))}; go on where it "
            f"began, or `tunebook resume {name} --fork NEW` goes on on another device, in the same "
            "precision"
        )
    fork = resumed_from(run.environment)
    if fork is None:
        return 0
    if checkpoint is None:
        raise ResumeRefused(
            f"run {name} has no whole checkpoint left, and went on from step {fork[1]} of run "
            f"{fork[0]}; `tunebook resume {fork[0]} --fork NEW` does so again"
        )
    return fork[1]


def record_start(run: Run, checkpoint: Path | None) -> None:
    """Write down what the run begins with, as far as it is not known: device and weights."""
    found: dict[str, object] = dict(_device(run.recipe))
    if checkpoint is None and "base_weights" not in run.environment:
        found["base_weights"] = weights_hash(find_model(run.recipe.model), run.run.book)
    if found.keys() - run.environment.keys():
        run.environment |= found
        write_atomically(run.run.resolved_yaml, dump_resolved(run.recipe, run.environment))
        run.beat()


def _device(recipe: Recipe) -> dict[str, str]:
    device = choose_device(recipe.device)
    return {"device": device, "precision": choose_precision(recipe.precision, device)}


def prepare_data(run: Run, stop_code: Callable[[], int | None], done: int) -> None:
    """Tokenize the run's data; RunEnded when it is asked to stop meanwhile.

    Raises PlanRefused for data that would train something else than meant.
    """
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

    run.codec = load_tokenizer(run.recipe.model, run.recipe.add_tokens, run.run.cache_dir)
    try:
        run.prepared = prepare_run_data(
            run.run, run.recipe, run.environment, run.codec, run.before, run.say, watch
        )
    except DefectError as error:
        fault = (fault_of(error),)
        raise PlanRefused(refusal_reason("it", fault, fault)) from None
    for sentence in unread_tokens(run.prepared, run.codec):
        run.say(sentence)
    validation = run.prepared.validation
    if validation is not None:
        for index in range(len(validation)):
            example = validation.example(index)
            run.documents[example.id] = example.document
            run.validation_bytes += example.scored_bytes


def plan_run(run: Run) -> None:
    """Plan the run, build its model to try it out, and refuse it where the plan does."""
    recipe = run.recipe
    config = load_config(recipe.model)
    known = Known(
        recipe,
        config,
        parse_device(choose_device(recipe.device), run.team.size),
        run.run.path,
        WeightFiles("complete"),
        run.codec,
        run.prepared,
    )

    def try_out(sizes: Sizes, checkpointing: bool | int) -> Probe | None:
        run.say("trying out the longest micro-batch")
        if not hasattr(run, "loaded"):
            build(run, None, checkpointing)
        elif checkpointing:
            set_checkpointing(run.loaded.causal, checkpointing)
        run.gradient_checkpointing = checkpointing
        return try_longest(known, run.loaded, run.scorer, run.optimization, sizes)

    if not run.team.alone:
        run.say("on several devices the longest micro-batch is not tried out before step 1")
    plan = make_plan(known, try_out if run.team.alone else None)
    # What an earlier attempt found out stays: the plan was wrong once.
    kept = {k: v for k, v in read_plan(run.run).items() if k == "out_of_memory"}
    write_plan(run.run, {**plan_json(plan), **kept})
    for finding in plan.findings:
        if finding not in plan.refusals[:1]:  # which the refusal says itself
            level = "accepted" if plan.is_accepted(finding) else finding.level
            run.say(f"{level}: {finding.name}: {finding.message}")
    if plan.refusals:
        raise PlanRefused(refusal_reason("it", plan.refusals))
    run.micro_batch_size = plan.micro_batch_size
    if not hasattr(run, "loaded"):
        build(run, None, plan.gradient_checkpointing)


def build(run: Run, checkpoint: Path | None, checkpointing: bool | int) -> None:
    """Load the model and its optimizer, from a checkpoint where there is one, on every rank."""
    refuse_optimizer(run.recipe, choose_device(run.recipe.device))
    orders = {
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "micro_batch_size": run.micro_batch_size,
        "checkpointing": checkpointing,
        "tokens": tokens_of(run),
    }
    with run.team.together("build", **orders):
        run.loaded, run.scorer = build_model(
            run.recipe,
            run.environment,
            run.codec,
            checkpoint,
            checkpointing=checkpointing,
            team=run.team,
        )
        run.optimization = Optimization(
            run.loaded.trainable(),
            run.recipe.train,
            keeps_rounded=run.loaded.root is not None and precision_of(run) == "bf16",
            exact=run.loaded.exact,
        )
        if checkpoint is not None:
            read_optimizer(checkpoint, run.optimization)
    run.gradient_checkpointing = checkpointing
    for note in run.loaded.notes:
        run.say(note)
    # What loading takes for a moment is not what training is planned to need.
    run.loading_peak_bytes = peak_bytes(run.loaded.device)
    reset_peak(run.loaded.device)


def tokens_of(run: Run) -> list[object]:
    """Give what a team must agree on before it trains: how texts become tokens, and how many."""
    train = run.prepared.train
    counts = [train.rows_per_epoch, train.tokens_per_epoch, train.target_tokens_per_epoch]
    return [run.codec.fingerprint, run.prepared.validation_hash, *counts]


def precision_of(run: Run) -> str:
    """Tell what the run computes in."""
    return choose_precision(run.recipe.precision, choose_device(run.recipe.device))


def take_up(run: Run, folder: Path, position: Position) -> None:
    """Put the state of a checkpoint back."""
    run.non_finite_steps = position.non_finite_steps
    best, loss = position.best_step, position.best_loss
    # A best that was damaged and set aside is gone; the next evaluation makes a new one.
    if best is not None and loss is not None and (folder.parent / f"step-{best}").is_dir():
        run.best = (best, loss)
        mark_best(run.run, best)
    if not any(c["step"] == position.step for c in run.before.checkpoints):
        run.events.write("checkpoint", {"step": position.step, "reason": "found on resume"})


def make_training(run: Run) -> None:
    """Put together what the loop trains with."""
    horizon = plan_horizon(run.recipe, run.prepared.train, run.micro_batch_size)
    canary = tuple(validation_batches_of(run, limit=run.recipe.evaluate.canary))
    run.training = Training(
        run.recipe,
        run.loaded,
        run.scorer,
        run.optimization,
        run.prepared.train,
        horizon,
        canary,
        run.team,
        run.codec.special_ids & {run.codec.eos_id, run.codec.pad_id},
    )
    run.prompts = choose_prompts(run.recipe, run.codec, run.prepared)
    keep_activations(run)


def refuse_fewer_steps(run: Run, done: int) -> None:
    """Raise ResumeRefused when a run has more steps behind it than its settings make."""
    total, name = run.training.horizon.total_steps, run.run.name
    if total < done:
        raise ResumeRefused(
            f"run {name} stands at step {done}, and its settings make {total} steps; `tunebook "
            f"resume {name} --fork NEW` with more train.epochs, max_steps or max_tokens trains on"
        )


def describe(run: Run) -> None:
    """Record what is about to be trained: counts, sizes, the first batch as the model sees it."""
    training, horizon = run.training, run.training.horizon
    first = batches_of_step(training.data, horizon, 1)
    facts = {
        "run": run.run.name,
        "parameters": training.loaded.counts(),
        "device": str(training.loaded.device),
        "devices": run.team.size,
        "precision": _precision_words(run),
        "attention": "flat rows, per document" if training.scorer.flat else "the model's own",
        "activation_cache": describe_cache(run),
        "steps": horizon.total_steps,
        "rows_per_epoch": horizon.rows_per_epoch,
        "effective_batch_size": horizon.effective_batch_size,
        "micro_batch_size": horizon.micro_batch_size,
        "gradient_accumulation_steps": math.ceil(
            horizon.effective_batch_size / horizon.micro_batch_size / run.team.size
        ),
        "tokens_per_epoch": run.prepared.train.tokens_per_epoch,
        "target_tokens_per_epoch": run.prepared.train.target_tokens_per_epoch,
        "context_length": training.loaded.context_length,
        "vocabulary_size": run.codec.vocab_size,
        "first_batch": [line for batch in first[:1] for line in _marked(run.codec, batch)][:8],
    }
    run.events.write("facts", facts)
    known = replace(run.before, facts={**run.before.facts, **facts})
    run.looks = Looks(facts_of(run.run, known), known.steps, known.validations, known.verdicts)


def _precision_words(run: Run) -> str:
    words = "bf16 with fp32 master weights" if run.optimization.uses_masters else "fp32"
    if run.recipe.method == "qlora":
        quantization = run.recipe.quantization
        double = ", double quantized" if quantization.double else ""
        return f"frozen weights in {quantization.kind}{double}; the rest in {words}"
    return words


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


def validation_batches_of(run: Run, limit: int | None = None) -> list[MicroBatch]:
    """Read the first `limit` held-out examples (all by default) as batches."""
    validation = run.prepared.validation
    if validation is None or limit == 0:
        return []
    batches = validation_batches(validation, VALIDATION_TOKENS_PER_BATCH, limit=limit)
    return list(batches)


def answer(run: Run, number: int) -> list[int]:
    """Let the model give its most likely answer to one of the run's prompts; the new tokens."""
    ids, greedy = run.prompts[number].ids, Sampling(run.recipe.evaluate.max_new_tokens)

    def ask() -> Continuation:
        [(_, found)] = generate(run.loaded, [ids], greedy, end_ids(run.loaded, run.codec.eos_id))
        return found

    return list(with_root(run.loaded, ask).ids)
