"""How long a run will take: the work it has to do, divided by a speed that was measured or stated.

Work is counted in floating-point operations (see `Cost`), so that a micro-batch measured at one
length stands for batches of others, and its forward pass for an evaluation. Left out, and said so:
the optimizer's update, reading rows, writing checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunebook.data.prepare import Prepared
from tunebook.plan.ceiling import DTYPES, matrix_product_flops
from tunebook.plan.devices import Device
from tunebook.plan.probe import Probe
from tunebook.plan.result import Parameters, Time
from tunebook.recipe.measuring import Every
from tunebook.recipe.tree import Recipe
from tunebook.step.horizon import Horizon
from tunebook.units import format_seconds

# Of the data sheet's peak. Published fine-tuning on one GPU reaches 40 to 46 % with long packed
# rows of 7B and 8B models; shorter rows and smaller models stay below.
CUDA_UTILISATION = 0.35
# Of a matrix product alone on this machine: the step reached 50 to 70 % of it in our benchmarks.
CPU_UTILISATION = 0.5


@dataclass(frozen=True, slots=True)
class Work:
    """The tokens that go through the model in a whole run; targets are those that are scored.

    Of the evaluation's tokens the canary takes `canary_share`. For `read_tokens` of both the
    activations of the layers below were kept, and are read.
    """

    tokens: float
    target_tokens: float
    evaluation_tokens: float = 0.0
    evaluation_target_tokens: float = 0.0
    canary_share: float = 0.0
    read_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Floating-point operations of a forward pass, per token; `head` per target token.

    This is the one convention by which shares of a ceiling and of a peak (MFU) are counted:
    forward, 2 x weights that are multiplied per token (Kaplan et al. 2020, section 2.1; of the
    output head per target token alone, as it is computed here), and 4 x layers x width x context /
    2 for causal attention (Chowdhery et al. 2022, appendix B); backward, twice that, but once where
    weights are frozen. Passes that are made again to save memory are not counted, as in an MFU.

    `backward` is what the backward pass costs in forward passes: 2, or 1 where the weights are
    frozen and only activations need a gradient (attention has no weights: always 2), or between
    where some of them are. `through` is the share of layers that it goes through: below the lowest
    one that learns nothing needs a gradient.
    """

    body: float
    head: float
    attention: float
    adapter: float
    backward: float
    through: float = 1.0

    def forward(self, tokens: float, target_tokens: float) -> float:
        """Count the operations of scoring tokens."""
        body = self.body + self.attention + self.adapter
        return body * tokens + self.head * target_tokens

    def training(self, tokens: float, target_tokens: float) -> float:
        """Count the operations of a forward and a backward pass."""
        learning = self.backward - 1
        body = (1 + self.through + learning) * self.body + (1 + 2 * self.through) * self.attention
        head = (1 + self.backward) * self.head
        return (body + 3 * self.adapter) * tokens + head * target_tokens

    def below(self, tokens: float) -> float:
        """Count the operations of layers below the lowest that learns, in a forward pass."""
        return (1 - self.through) * (self.body + self.attention) * tokens

    def coefficients(self) -> dict[str, float]:
        """Give what a token and what a target token adds to the operations of training."""
        return {"token": self.training(1, 0), "target_token": self.training(0, 1)}


@dataclass(frozen=True, slots=True)
class Speed:
    """Operations per second, and the ground for saying so in one sentence."""

    flops: float
    basis: str


def count_cost(
    parameters: Parameters, config: Mapping[str, Any], method: str, context: float
) -> Cost:
    """Count what a token costs in a model; `context` is the mean length of a token's example.

    Every expert of a mixture of experts is counted, which is too many.
    """
    groups = parameters.groups
    tied = parameters.total_untied - parameters.total
    # An architecture that names its layers otherwise has its attention left out.
    layers = _first(config, ("num_hidden_layers", "n_layer", "num_layers"), 0)
    heads = _first(config, ("num_attention_heads", "n_head", "num_heads"), 1)
    width = _first(config, ("hidden_size", "n_embd", "d_model"), 0)
    head_dim = _first(config, ("head_dim",), width // heads)
    return Cost(
        body=2.0 * (groups["attention"] + groups["mlp"] + groups["other"]),
        head=2.0 * (groups["head"] + tied),
        # Scores and their products with the values, 2 x 2 operations, half of them masked away.
        attention=2.0 * layers * heads * head_dim * context,
        adapter=2.0 * parameters.adapter,
        backward=1 + parameters.trainable / parameters.total if method == "full" else 1,
        through=parameters.through,
    )


def _first(config: Mapping[str, Any], names: tuple[str, ...], default: int) -> int:
    found = (config[name] for name in names if isinstance(config.get(name), int))
    return next(found, default)


def count_work(recipe: Recipe, horizon: Horizon, prepared: Prepared, canary_every: int) -> Work:
    """Count the tokens of a run: its steps, its evaluations and its canary."""
    epochs = horizon.total_rows / horizon.rows_per_epoch
    tokens = targets = canary_tokens = canary_targets = 0
    if prepared.validation is not None:
        lengths, counts = prepared.validation.lengths, prepared.validation.target_counts
        tokens, targets = int(lengths.sum()), int(counts.sum())
        first = slice(recipe.evaluate.canary)
        canary_tokens, canary_targets = int(lengths[first].sum()), int(counts[first].sum())
    # Once before step 1, too.
    times = 1 + times_due(horizon, recipe.evaluate.every)
    canaries = math.ceil(horizon.total_steps / canary_every)  # after the last step, too
    return Work(
        tokens=epochs * prepared.train.tokens_per_epoch,
        target_tokens=epochs * prepared.train.target_tokens_per_epoch,
        evaluation_tokens=float(times * tokens + canaries * canary_tokens),
        evaluation_target_tokens=float(times * targets + canaries * canary_targets),
        canary_share=canaries * canary_tokens / max(times * tokens + canaries * canary_tokens, 1),
    )


def mean_context(prepared: Prepared) -> float:
    """Give the length of the example that a token stands in, on average over tokens."""
    lengths = np.concatenate([shards.lengths for shards in prepared.train.sources]).astype(float)
    return float((lengths**2).sum() / lengths.sum())


def times_due(horizon: Horizon, every: Every) -> int:
    """Count the steps after which something happens that is due `every` so often, or at the end."""
    total = horizon.total_steps
    if isinstance(every, int):
        return math.ceil(total / every)
    marks = horizon.epoch_after(total) if every == "epoch" else 100 / float(every[:-1])
    # A step that crosses several marks counts once.
    return min(math.floor(marks + 1e-9) + (not horizon.due(every, total)), total)


def steps_due(horizon: Horizon, every: Every) -> NDArray[np.int64]:
    """List the steps after which something happens that is due `every` so often, or at the end."""
    total = horizon.total_steps
    steps = np.arange(total + 1)
    marks: NDArray[Any]
    if isinstance(every, int):
        marks = steps // max(every, 1)
    elif every == "epoch":
        rows = np.minimum(steps * horizon.effective_batch_size, horizon.total_rows)
        marks = rows // horizon.rows_per_epoch
    else:
        share = float(every[:-1]) / 100
        marks = np.floor(steps / total / share + 1e-9) if share > 0 else np.zeros(total + 1)
    is_due = marks[1:] > marks[:-1]
    is_due[-1] = True
    return steps[1:][is_due]


def measured_speed(probe: Probe, cost: Cost) -> Speed:
    """Take the speed of the micro-batch that was tried on the device itself."""
    flops = cost.training(probe.tokens, probe.target_tokens) / probe.seconds
    share = cost.forward(1, 0) / cost.training(1, 0)
    return Speed(
        flops,
        f"measured here: the {probe.tokens:,} tokens of the longest micro-batch forward and "
        f"backward in {format_seconds(probe.seconds)}, taken as the rate of all, an evaluation as "
        f"{share:.0%} of that; without optimizer updates and saving",
    )


def stated_speed(device: Device, precision: str) -> Speed | None:
    """Estimate a device's speed from its data sheet, or a CPU's from a matrix product here.

    None when nothing is known of it.
    """
    several = ""
    if device.count > 1:
        several = f", times {device.count} devices (what they tell each other is not counted)"
    if device.kind == "cpu" and device.present and precision in DTYPES:
        flops = matrix_product_flops(precision, seconds=0.1) * CPU_UTILISATION
        basis = f"not measured: {CPU_UTILISATION:.0%} of a {precision} matrix product alone here"
        return Speed(flops * device.count, basis + several)
    peak = device.tflops.get(precision)
    if peak is None:
        return None
    return Speed(
        peak * 1e12 * CUDA_UTILISATION * device.count,
        f"not measured: {CUDA_UTILISATION:.0%} of the {peak:g} TFLOP/s in {precision} that the "
        f"data sheet of {device.name} gives{several}",
    )


def estimate_time(work: Work, cost: Cost, speed: Speed | None) -> Time:
    """Divide the work by the speed; without one the time is not known."""
    if speed is None:
        return Time(
            None, None, "not measured; the speed of this device in this precision is not known"
        )
    spared = cost.below(work.read_tokens)
    training = (cost.training(work.tokens, work.target_tokens) - spared) / speed.flops
    evaluation = cost.forward(work.evaluation_tokens, work.evaluation_target_tokens) / speed.flops
    canary = evaluation * work.canary_share
    return Time(training + evaluation, evaluation, speed.basis, canary)
