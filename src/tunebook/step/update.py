"""One optimizer step over its micro-batches."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from tunebook.data.batches import MicroBatch
from tunebook.errors import first_line
from tunebook.models.load import LoadedModel
from tunebook.models.memory import is_out_of_memory
from tunebook.records import ExampleLoss
from tunebook.step.forward import Scorer, sum_per_example, targets_per_example, token_losses
from tunebook.step.looked_up import rows_apart
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.share import gather_sums, laid_out, shared_out
from tunebook.step.stopwatch import Stopwatch
from tunebook.step.team import ALONE, Team


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did; see `records.StepRecord` for the meaning of the fields."""

    loss_sum: float
    target_tokens: int
    grad_norm: float
    clipped: bool
    applied: bool
    update_ratio: float | None
    changed_fraction: float | None
    examples: tuple[ExampleLoss, ...]
    pass_seconds: float | None = None


class StepOutOfMemory(Exception):
    """A micro-batch ran out of memory: no weight was moved and no gradient is left.

    It holds no tensor, and no error of torch whose traceback would.
    """

    def __init__(self, step: int, examples: tuple[str, ...], tokens: int, reason: str) -> None:
        super().__init__(step, examples, tokens, reason)
        self.step, self.examples, self.tokens, self.reason = step, examples, tokens, reason


def seed_for(seed: int, step: int, micro_batch: int) -> int:
    """Derive the dropout seed of a micro-batch, so that a resume needs no generator state."""
    text = f"tunebook dropout {seed} {step} {micro_batch}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def take_step(
    loaded: LoadedModel,
    scorer: Scorer,
    optimization: Optimization,
    sample: WeightSample,
    micro_batches: Sequence[MicroBatch],
    *,
    learning_rate: float,
    max_grad_norm: float,
    seed: int,
    step: int,
    team: Team = ALONE,
) -> StepResult:
    """Back-propagate every micro-batch, check that all is finite, clip and update.

    Each micro-batch contributes its loss sum, scaled by source, divided by the target tokens of the
    *whole* step, which are not scaled, so the result does not depend on how rows were split into
    micro-batches, or micro-batches over the ranks of a team, and every rank gets it. When the loss
    or the gradient norm is not finite the weights stay untouched and `applied` is False. An update
    that makes a weight NaN or infinite, as a broken state of the optimizer does, has a NaN
    `update_ratio`, and so has one left out because a weight is no number.
    Raises StepOutOfMemory when a micro-batch does not fit.
    """
    optimization.clear_gradients()
    micro_batches = laid_out(loaded, scorer, micro_batches)
    target_tokens = sum(int(batch.target.sum()) for batch in micro_batches)
    mine = shared_out(loaded, micro_batches, team)
    passes = Stopwatch(loaded.device)
    try:
        losses = back_propagate(
            loaded,
            replace(scorer, homes=optimization.homes),
            mine,
            target_tokens=target_tokens,
            seed=seed,
            step=step,
            team=team,
        )
    except StepOutOfMemory:
        optimization.clear_gradients()
        raise
    passes.stop()
    optimization.add_up_gradients(team)
    norm = optimization.grad_norm()
    before = sample.take()
    # The one place where a step waits for the device: everything below needs these numbers.
    grad_norm = team.first(float(norm))
    sums = gather_sums(
        micro_batches,
        [sum_per_example(b, found) for b, found in zip(mine, losses, strict=True)],
        team,
    )
    loss_sum = float(sum(float(part.sum()) for part in sums))
    applied = _finite(grad_norm) and _finite(loss_sum)
    clipped = bool(max_grad_norm) and applied and grad_norm > max_grad_norm
    ratio = changed = None
    if applied:
        # The same small constant as torch.nn.utils.clip_grad_norm_.
        factor = max_grad_norm / (grad_norm + 1e-6) if clipped else 1.0
        optimization.apply(learning_rate, factor)
        # Not longer than they are needed: the samples take their place.
        optimization.clear_gradients()
        ratio, changed = (float(x) for x in sample.compare(before, sample.take()))
    # Here and nowhere later: of sharded weights all ranks must look at once.
    if not optimization.weights_are_finite():
        ratio = math.nan
    optimization.clear_gradients()
    return StepResult(
        loss_sum=loss_sum,
        target_tokens=target_tokens,
        grad_norm=grad_norm,
        clipped=clipped,
        applied=applied,
        update_ratio=ratio,
        changed_fraction=changed,
        examples=_example_losses(micro_batches, sums),
        pass_seconds=passes.seconds,
    )


def back_propagate(
    loaded: LoadedModel,
    scorer: Scorer,
    micro_batches: Sequence[MicroBatch],
    *,
    target_tokens: int,
    seed: int,
    step: int,
    team: Team = ALONE,
) -> list[torch.Tensor]:
    """Add up the gradients of micro-batches; gives the loss of each target token, per micro-batch.

    Nothing here waits for the device or looks at a value, so it also runs on tensors without data.
    """
    loaded.network.train()
    losses = []
    for place, batch in enumerate(micro_batches):
        # The number that the micro-batch has in the whole step.
        torch.manual_seed(seed_for(seed, step, team.rank + place * team.size))
        reason = ""
        try:
            losses.append(add_gradient(loaded, scorer, batch, target_tokens))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = first_line(error)
        if reason:  # outside of the block above, or its error would keep the activations alive
            raise StepOutOfMemory(step, batch.example_ids, len(batch.ids), reason)
    return losses


def add_gradient(
    loaded: LoadedModel, scorer: Scorer, batch: MicroBatch, target_tokens: int
) -> torch.Tensor:
    """Add the gradient of a micro-batch of a step of so many targets; gives its tokens' losses."""
    # Divided before the sum: what is written past autograd sees no factor that comes later.
    scales = batch.scales or (1.0,) * len(batch.lengths)
    batch = replace(batch, scales=tuple(scale / max(target_tokens, 1) for scale in scales))
    with rows_apart(loaded.causal, scorer.homes) as rows:
        found = token_losses(loaded, scorer, batch)
        found.loss_sum.backward()
    if rows is not None:
        rows.add_up()
    return found.losses_M


def _finite(value: float) -> bool:
    return value - value == 0.0


def _example_losses(
    micro_batches: Sequence[MicroBatch], sums: Sequence[torch.Tensor]
) -> tuple[ExampleLoss, ...]:
    return tuple(
        ExampleLoss(example_id, float(total), count)
        for batch, part in zip(micro_batches, sums, strict=True)
        for example_id, total, count in zip(
            batch.example_ids, part.tolist(), targets_per_example(batch), strict=True
        )
    )
