"""Make one run by the product's own loop, and log it; what is wrong with it is in its `Setup`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from reading import Rows
from substrates import FILL_IDS, Material, as_loaded, fresh_network

import tunebook.step.update
import tunebook.train.loop
from tunebook.data.batches import MicroBatch, collate
from tunebook.data.order import SourcedExample
from tunebook.models.load import LoadedModel, add_lora
from tunebook.recipe.methods import Lora
from tunebook.recipe.tree import Recipe
from tunebook.records import StepRecord, Tokens, ValidationRecord
from tunebook.step.forward import Scorer, TokenLosses, token_losses
from tunebook.step.horizon import Horizon
from tunebook.step.optimization import Optimization
from tunebook.step.schedule import rate_of_run, warmup_length
from tunebook.step.score import score_examples, validation_record
from tunebook.train.loop import Training, training_steps
from tunebook.watch.run_log import RunFacts, RunLog

CANARY = 8
VALIDATIONS = 7
_SCORER = Scorer(flat=True, direct_head=True)
_TOKENS_PER_BATCH = 2048

Examples = tuple[SourcedExample, ...]


class Order:
    """The rows of a run in memory, shuffled anew each epoch; `alter` changes what a row is."""

    def __init__(self, rows: Sequence[SourcedExample], seed: int) -> None:
        self.rows = list(rows)
        self.rows_per_epoch = len(self.rows)
        self.alter: Callable[[Order, int, Examples], Examples] | None = None
        self._seed = seed
        self._epochs: dict[int, np.ndarray] = {}

    def plain_row(self, index: int) -> Examples:
        """Give the examples of a row as they should be."""
        epoch, place = divmod(index, self.rows_per_epoch)
        if epoch not in self._epochs:
            generator = np.random.default_rng([self._seed, epoch])
            self._epochs[epoch] = generator.permutation(self.rows_per_epoch)
        return (self.rows[self._epochs[epoch][place]],)

    def row(self, index: int) -> Examples:
        """Give the examples of a row as they are trained."""
        found = self.plain_row(index)
        return self.alter(self, index, found) if self.alter else found


def make_training(
    loaded: LoadedModel,
    order: Order,
    canary: tuple[MicroBatch, ...],
    *,
    steps: int,
    batch: int,
    seed: int,
    train: Mapping[str, Any],
) -> Training:
    """Put a `Training` together from what is in memory."""
    recipe = Recipe.model_validate(
        {
            "name": "run",
            "model": "base",
            "method": "full" if loaded.network is loaded.causal else "lora",
            "seed": seed,
            "data": [{"path": "rows"}],
            "train": {"max_steps": steps, "effective_batch_size": batch, **train},
        }
    )
    optimization = Optimization(loaded.trainable(), recipe.train)
    horizon = Horizon(steps * batch, steps, order.rows_per_epoch, batch, batch)
    return Training(
        recipe,
        loaded,
        _SCORER,
        optimization,
        order,  # type: ignore[arg-type]
        horizon,
        canary,
        fill_ids=FILL_IDS,
    )


@dataclass
class Setup:
    """A run before it is made: the healthy settings, and all that a fault may change.

    Steps count from 1. `alter(order, index, examples)` changes what row `index` of the run holds
    (from 0), `before[step]` runs before that step, `rate(step)` multiplies the learning rate,
    `clip(step)` replaces the gradient norm that is clipped at, `gradients(step, optimization)`
    changes gradients before their norm is taken, `stored` rounds weights after each update,
    `bad_loss` are steps with an infinite loss.
    """

    material: Material
    seed: int
    steps: int
    batch: int = 8
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int = 8
    max_grad_norm: float = 1.0
    optimizer: str = "adamw"
    rows: Rows | None = None
    mixed_in: Rows = field(default_factory=list)
    held_out: Rows | None = None
    prepare: Callable[[Any], None] | None = None
    alter: Callable[[Order, int, Examples], Examples] | None = None
    before: dict[int, Callable[[Training], None]] = field(default_factory=dict)
    rate: Callable[[int], float] | None = None
    clip: Callable[[int], float] | None = None
    gradients: Callable[[int, Optimization], None] | None = None
    stored: Callable[[torch.Tensor], torch.Tensor] | None = None
    bad_loss: frozenset[int] = frozenset()
    resumed_after: tuple[int, ...] = ()

    @property
    def random(self) -> np.random.Generator:
        """A generator that depends on nothing but the seed."""
        return np.random.default_rng([self.seed, 17])

    def train_rows(self) -> list[SourcedExample]:
        """Give what is trained on, with the names of the sources."""
        own = self.material.train if self.rows is None else self.rows
        return [SourcedExample(row, source_of(row)) for row in [*own, *self.mixed_in]]


def source_of(row: Tokens) -> str:
    """Give the name of the source, which an id begins with."""
    return row.id.rpartition("#")[0]


def make_log(setup: Setup) -> RunLog:
    """Train a run and give its log."""
    loaded = _model(setup)
    order = Order(setup.train_rows(), setup.seed)
    order.alter = setup.alter
    held_out = setup.material.held_out if setup.held_out is None else setup.held_out
    validation = _validation_batches(held_out)
    training = make_training(
        loaded,
        order,
        (collate([SourcedExample(row, source_of(row)) for row in held_out[:CANARY]]),),
        steps=setup.steps,
        batch=setup.batch,
        seed=setup.seed,
        train={
            "learning_rate": setup.learning_rate,
            "schedule": setup.schedule,
            "warmup_steps": setup.warmup_steps,
            "max_grad_norm": setup.max_grad_norm,
            "optimizer": setup.optimizer,
        },
    )
    steps: list[StepRecord] = []
    validations = [_validate(training, validation, held_out, 0)]
    due = {round(setup.steps * n / VALIDATIONS) for n in range(1, VALIDATIONS + 1)}
    with _faults(setup, training):
        for record in training_steps(training, 1):
            steps.append(record)
            if record.step in due:
                validations.append(_validate(training, validation, held_out, record.step))
            if record.step + 1 in setup.before:
                setup.before[record.step + 1](training)
    return RunLog(steps, validations, _facts(setup, training, held_out))


def _model(setup: Setup) -> LoadedModel:
    substrate = setup.material.substrate
    network = fresh_network(substrate, setup.seed)
    network.load_state_dict(dict(setup.material.weights), strict=False)
    network.tie_weights()
    if setup.prepare is not None:
        setup.prepare(network)
    if setup.stored is not None:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(setup.stored(parameter))
    loaded = as_loaded(network)
    if substrate.rank is not None:
        lora = Lora(rank=substrate.rank, alpha=2 * substrate.rank)
        loaded = add_lora(loaded, lora, "base", setup.seed)
    return loaded


def _validation_batches(rows: Rows) -> list[MicroBatch]:
    """Lay held-out rows out in batches, short ones together."""
    batches, held, n_tokens = [], [], 0
    for row in rows:
        held.append(SourcedExample(row, source_of(row)))
        n_tokens += len(row.ids)
        if n_tokens >= _TOKENS_PER_BATCH:
            batches.append(collate(held))
            held, n_tokens = [], 0
    return [*batches, collate(held)] if held else batches


def losses_of(network: Any, rows: Rows) -> list[float]:
    """Give the loss of each row, in nats per target token."""
    scored = score_examples(as_loaded(network), _SCORER, _validation_batches(rows))
    return [line.loss_sum / line.target_tokens for line in scored]


def _validate(
    training: Training, batches: Sequence[MicroBatch], rows: Rows, step: int
) -> ValidationRecord:
    scored = score_examples(training.loaded, training.scorer, batches)
    return validation_record(
        scored,
        step=step,
        documents={row.id: row.document for row in rows},
        scored_bytes=sum(row.scored_bytes for row in rows),
        examples_hash="",
        started=0.0,
    )


@contextmanager
def _faults(setup: Setup, training: Training) -> Iterator[None]:
    """Put what is wrong into the loop's own functions, for the time of the run."""
    at = [0]  # the step that is being made
    optimization = training.optimization

    def rate(recipe: Recipe, step: int, total_steps: int) -> float:
        at[0] = step
        plain = rate_of_run(recipe, step, total_steps)
        return plain * setup.rate(step) if setup.rate else plain

    def step_clipped(*args: Any, **kwargs: Any) -> Any:
        if setup.clip:
            kwargs["max_grad_norm"] = setup.clip(at[0])
        return take_step(*args, **kwargs)

    def losses(loaded: LoadedModel, scorer: Scorer, batch: MicroBatch) -> TokenLosses:
        found = token_losses(loaded, scorer, batch)
        if at[0] not in setup.bad_loss:
            return found
        # What half precision makes of a loss that was scaled up too far.
        return TokenLosses(
            (found.loss_sum * 2.0**24).half().float(), (found.losses_M * 2.0**24).half().float()
        )

    take_step = tunebook.train.loop.take_step
    with ExitStack() as stack:
        # Seeding every kind of device takes longer than a step of these models, without dropout.
        seed = torch.default_generator.manual_seed
        stack.enter_context(patch.object(torch, "manual_seed", seed))
        stack.enter_context(patch.object(tunebook.train.loop, "rate_of_run", rate))
        stack.enter_context(patch.object(tunebook.train.loop, "take_step", step_clipped))
        if setup.bad_loss:
            stack.enter_context(patch.object(tunebook.step.update, "token_losses", losses))
        if setup.gradients:
            change, add_up = setup.gradients, optimization.add_up_gradients

            def changed(team: Any) -> None:
                add_up(team)
                with torch.no_grad():
                    change(at[0], optimization)

            stack.enter_context(patch.object(optimization, "add_up_gradients", changed))
        if setup.stored:
            store, apply = setup.stored, optimization.apply

            def rounded(learning_rate: float, clip_factor: float) -> None:
                apply(learning_rate, clip_factor)
                with torch.no_grad():
                    for parameter in optimization.masters.values():
                        parameter.copy_(store(parameter))

            stack.enter_context(patch.object(optimization, "apply", rounded))
        yield


def _facts(setup: Setup, training: Training, held_out: Rows) -> RunFacts:
    recipe, counts = training.recipe, training.loaded.counts()
    trained = {_content(example.tokens) for example in training.data.rows}  # type: ignore[attr-defined]
    return RunFacts(
        total_steps=setup.steps,
        steps_per_epoch=training.horizon.rows_per_epoch / setup.batch,
        warmup_steps=warmup_length(recipe.train, setup.steps),
        learning_rate=setup.learning_rate,
        max_grad_norm=setup.max_grad_norm,
        method=recipe.method,
        trainable_parameters=counts["trainable"],
        total_parameters=counts["total"],
        vocabulary_size=setup.material.substrate.vocabulary_size,
        resumed_after=setup.resumed_after,
        validation_overlap=(sum(_content(row) in trained for row in held_out), len(held_out)),
    )


def _content(row: Tokens) -> bytes:
    """Hash what a row says, whatever it is called."""
    return blake2b(np.array(row.ids, dtype=np.int32).tobytes(), digest_size=8).digest()


def is_healthy(log: RunLog) -> str | None:
    """Say what is wrong with a run that should be healthy; None when nothing is.

    By its set-up it has no fault; here only what the set-up cannot know is looked at: the held-out
    loss ends within 1 % of its minimum, below the base's, and the training loss does not rise.
    """
    losses = [v.loss for v in log.validations]
    if not all(map(math.isfinite, losses)):
        return "a validation is not finite"
    if losses[-1] > 1.01 * min(losses):
        return f"held-out loss ends at {losses[-1]:.3f}, {losses[-1] / min(losses) - 1:.1%} above"
    if losses[-1] > 0.995 * losses[0]:
        return "it learned nothing"
    third = len(log) // 3
    first, middle, last = (np.median(part) for part in np.array_split(log.loss, 3))
    if last > 1.01 * min(first, middle) and third:
        return f"training loss rises from {min(first, middle):.3f} to {last:.3f}"
    return None
