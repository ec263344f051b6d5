"""The training loop: reads top to bottom, yields one record per optimizer step, writes nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tunebook.data.batches import MicroBatch, padding_of
from tunebook.data.order import Rows
from tunebook.models.load import LoadedModel
from tunebook.recipe.tree import Recipe
from tunebook.records import StepRecord
from tunebook.step.forward import Scorer
from tunebook.step.horizon import Horizon, batches_of_step
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.peak import peak_bytes
from tunebook.step.schedule import merges_after, rate_of_run
from tunebook.step.score import mean_loss, score_examples
from tunebook.step.team import ALONE, Team
from tunebook.step.update import StepResult, take_step

# Above this many parameters the canary would cost a noticeable share of every step.
_SMALL_MODEL_PARAMETERS = 50_000_000
_CANARY_EVERY_ON_LARGE = 10


@dataclass(frozen=True, slots=True)
class Training:
    """Everything a run trains with; built once, then only its tensors change.

    `fill_ids` are the tokens that fill rows up in data that comes with padding. `rate` gives the
    learning rate of a step in place of the recipe's schedule, for steps that are taken again with
    something changed.
    """

    recipe: Recipe
    loaded: LoadedModel
    scorer: Scorer
    optimization: Optimization
    data: Rows
    horizon: Horizon
    canary: tuple[MicroBatch, ...]
    team: Team = ALONE
    fill_ids: frozenset[int] = frozenset()
    rate: Callable[[int], float] | None = None


def training_steps(training: Training, first_step: int) -> Iterator[StepRecord]:
    """Train from `first_step` (counted from 1) to the end, yielding after every step.

    The caller may evaluate, save or stop between two steps: all state is in `training`, and what
    a step does depends only on it and on the step's number. The ranks of a team all call this and
    get the same records.
    """
    recipe, horizon = training.recipe, training.horizon
    # Of the masters: an update that they take shows in a bf16 copy only now and then.
    sample = WeightSample(training.optimization.masters, training.team)
    canary_every = canary_interval(training.loaded.counts()["total"])
    for step in range(first_step, horizon.total_steps + 1):
        started = time.monotonic()
        micro_batches = batches_of_step(training.data, horizon, step)
        read = time.monotonic()
        learning_rate = learning_rate_of(training, step)
        result = take_step(
            training.loaded,
            training.scorer,
            training.optimization,
            sample,
            micro_batches,
            learning_rate=learning_rate,
            max_grad_norm=recipe.train.max_grad_norm,
            seed=recipe.seed,
            step=step,
            team=training.team,
        )
        if training.loaded.merger and merges_after(recipe, step, horizon.total_steps):
            training.loaded.merger.merge(step)
            training.optimization.begin_anew(recipe.relora.reset_optimizer)
        canary_loss, updated = None, time.monotonic()
        due = step % canary_every == 0 or step == horizon.total_steps
        if training.canary and due:
            scored = score_examples(
                training.loaded, training.scorer, training.canary, training.team
            )
            canary_loss = mean_loss(scored)
        times = started, read, updated, time.monotonic()
        yield _record(training, step, micro_batches, result, learning_rate, canary_loss, times)


def learning_rate_of(training: Training, step: int) -> float:
    """Give the learning rate of a step: the recipe's, or that of what takes its place."""
    if training.rate is not None:
        return training.rate(step)
    return rate_of_run(training.recipe, step, training.horizon.total_steps)


def canary_interval(n_parameters: int) -> int:
    """Give how many steps apart the canary is scored, for a model of so many parameters.

    It is scored after the last step, too: the loss of the final weights is what a release compares.
    """
    return 1 if n_parameters < _SMALL_MODEL_PARAMETERS else _CANARY_EVERY_ON_LARGE


def _record(
    training: Training,
    step: int,
    micro_batches: Sequence[MicroBatch],
    result: StepResult,
    learning_rate: float,
    canary_loss: float | None,
    times: tuple[float, float, float, float],
) -> StepRecord:
    started, read, updated, scored = times
    sources: Counter[str] = Counter()
    for batch in micro_batches:
        for source, length in zip(batch.sources, batch.lengths, strict=True):
            sources[source] += length
    padding = [padding_of(batch, training.fill_ids) for batch in micro_batches]
    rows = [row for batch in micro_batches for row in batch.rows]
    lengths = [length for batch in micro_batches for length in batch.lengths]
    # A step tells of its rows in their order, however they were put together.
    in_order = sorted(range(len(rows)), key=rows.__getitem__)
    examples = result.examples
    if len(examples) == len(in_order):  # a fault that left some out is a detector's to tell
        examples = tuple(examples[place] for place in in_order)
    return StepRecord(
        step=step,
        epoch=round(training.horizon.epoch_after(step), 6),
        loss=result.loss_sum / result.target_tokens,
        loss_sum=result.loss_sum,
        target_tokens=result.target_tokens,
        tokens=sum(len(batch.ids) for batch in micro_batches),
        padding_tokens=sum(int(found.sum()) for found in padding),
        learning_rate=learning_rate,
        grad_norm=result.grad_norm,
        clipped=result.clipped,
        applied=result.applied,
        update_ratio=result.update_ratio,
        changed_fraction=result.changed_fraction,
        examples=examples,
        lengths=tuple(lengths[place] for place in in_order),
        sources=dict(sources),
        canary_loss=canary_loss,
        seconds=time.monotonic() - started,
        memory_bytes=peak_bytes(training.loaded.device),
        padding_target_tokens=sum(
            int((found & batch.target).sum())
            for found, batch in zip(padding, micro_batches, strict=True)
        ),
        data_seconds=read - started,
        pass_seconds=result.pass_seconds,
        canary_seconds=scored - updated,
    )
