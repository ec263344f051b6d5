from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tunebook.data.batches import MicroBatch
from tunebook.models.load import LoadedModel, add_lora, load_model
from tunebook.plan.probe import run_probe
from tunebook.recipe.tree import Lora, Train
from tunebook.step.forward import Scorer
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.update import take_step

SCORER = Scorer(flat=True, direct_head=True)


def batch_of(n: int, length: int = 40) -> MicroBatch:
    ids = np.arange(n * length, dtype=np.int64) * 7 % 290
    positions = np.tile(np.arange(length), n)
    return MicroBatch(
        ids=ids,
        positions=positions,
        target=positions > 3,
        segment=np.repeat(np.arange(n), length),
        lengths=(length,) * n,
        example_ids=tuple(f"rows#{i}" for i in range(n)),
        sources=("rows",) * n,
    )


def load(folder: Path, precision: str = "fp32") -> LoadedModel:
    return load_model(str(folder), device="cpu", precision=precision, attention="auto")


def test_a_probe_sees_what_step_1_will_and_leaves_nothing_changed(tiny_gpt2: Path) -> None:
    """GPT-2 has dropout, so the generator is drawn from."""
    loaded = add_lora(load(tiny_gpt2), Lora(), "base", 0)
    optimization = Optimization(loaded.trainable(), Train())
    before = {n: p.detach().clone() for n, p in loaded.network.named_parameters()}
    loaded.network.eval()
    generator = torch.get_rng_state()
    probe = run_probe(loaded, SCORER, optimization, batch_of(3), seed=5)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not loaded.network.training
    assert all(torch.equal(p, before[n]) for n, p in loaded.network.named_parameters())
    assert all(p.grad is None for p in loaded.network.parameters())
    assert optimization.state_tensors() == {}

    sample = WeightSample(optimization.masters)
    step = take_step(
        loaded,
        SCORER,
        optimization,
        sample,
        [batch_of(3)],
        learning_rate=1e-3,
        max_grad_norm=1,
        seed=5,
        step=1,
    )
    assert probe.loss == pytest.approx(step.loss_sum / step.target_tokens)
    assert (probe.tokens, probe.target_tokens) == (120, 108)
    assert probe.n_weights == sum(p.numel() for p in loaded.trainable().values())
    assert probe.seconds > 0


def test_the_sample_is_of_what_the_optimizer_moves(tiny_model: Path) -> None:
    loaded = load(tiny_model, "bf16")
    probe = run_probe(loaded, SCORER, Optimization(loaded.trainable(), Train()), batch_of(1), 0)
    assert probe.dtype == torch.float32
    assert len(probe.weights) == probe.n_weights  # a model as small as this one is taken whole
    # Nothing is learned yet: all tokens are about as unlikely.
    assert probe.loss_spread is not None
    assert probe.loss_spread < 0.5


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="no peak begins anew on this system"
)
def test_the_peak_is_that_of_the_pass_and_not_of_what_was_before(tiny_model: Path) -> None:
    loaded = load(tiny_model)
    optimization = Optimization(loaded.trainable(), Train())
    large = torch.ones(400 << 20, dtype=torch.uint8)
    with_it = run_probe(loaded, SCORER, optimization, batch_of(1), 0).peak_bytes
    del large
    without = run_probe(loaded, SCORER, optimization, batch_of(1), 0).peak_bytes
    assert with_it is not None
    assert without is not None
    assert with_it - without > 300 << 20
