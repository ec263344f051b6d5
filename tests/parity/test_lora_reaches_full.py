"""LoRA whose rank is the width of what it adapts, beside training the same weights in full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tunebook.data.batches import MicroBatch
from tunebook.models.layers import freeze_modules
from tunebook.models.load import LoadedModel, add_lora, load_model
from tunebook.recipe.tree import Lora, Train
from tunebook.step.forward import Scorer
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.update import take_step

STEPS = 15
WIDEST = 64  # what enters the widest layer of the tiny model
BESIDES = ["*norm*", "embed_tokens"]


def curve(loaded: LoadedModel) -> np.ndarray:
    """Give the loss before each of a few steps of plain SGD on the same rows."""
    optimization = Optimization(loaded.trainable(), Train(optimizer="sgd"))
    sample = WeightSample(optimization.masters)
    ids = np.random.default_rng(0).integers(0, 250, 48)
    places = np.arange(48)
    batch = MicroBatch(ids, places, places > 0, places * 0, (48,), ("a",), ("a",))
    losses = []
    for step in range(1, STEPS + 1):
        found = take_step(
            loaded, Scorer(True, True), optimization, sample, [batch],
            learning_rate=0.1, max_grad_norm=0.0, seed=0, step=step,
        )  # fmt: skip
        losses.append(found.loss_sum / found.target_tokens)
    return np.array(losses)


def test_at_the_rank_of_the_width_an_adapter_learns_as_the_weights_do(tiny_model: Path) -> None:
    def load() -> LoadedModel:
        return load_model(str(tiny_model), device="cpu", precision="fp32", attention="auto")

    full = load()
    freeze_modules(full.causal, BESIDES)
    wanted = curve(full)
    assert wanted[-1] < wanted[0] - 0.05
    off = {}
    for rank in (1, 8, WIDEST):
        loaded = add_lora(load(), Lora(rank=rank, alpha=rank), "base", seed=0)
        with torch.no_grad():
            for name, parameter in loaded.trainable().items():
                if "lora_A" in name:  # as many directions of the input as fit, none stretched
                    torch.nn.init.orthogonal_(parameter)
        off[rank] = np.abs(curve(loaded) - wanted).max() / (wanted[0] - wanted[-1])
    # With A^T A = 1 a step moves B @ A by the step of the weights themselves; A moves only where B
    # is not 0, which is the square of the learning rate.
    assert off[WIDEST] < 0.01
    assert off[1] > off[8] > 10 * off[WIDEST]
    assert off[1] > 0.8
