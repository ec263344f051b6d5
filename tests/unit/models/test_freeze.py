"""Frozen modules: named or refused, without gradient, and counted exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from tunebook.data.batches import MicroBatch
from tunebook.errors import ModelError
from tunebook.models.checkpointing import set_checkpointing
from tunebook.models.layers import freeze_modules
from tunebook.models.load import LoadedModel, load_model
from tunebook.models.skeleton import build_skeleton
from tunebook.plan.devices import parse_device
from tunebook.plan.memory import MemoryPlanner, Setting
from tunebook.plan.rehearsal import Shape
from tunebook.recipe.tree import Recipe, Train
from tunebook.step.forward import Scorer, token_losses
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.update import take_step

SCORER = Scorer(flat=True, direct_head=True)
V, D, MLP, LAYERS = 100, 64, 160, 10
HEAD = V * D
LAYER = 2 * D * D + 2 * D * 32 + 3 * D * MLP + 2 * D


def llama(*, tied: bool = False) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(
        {"name": "a", "model": "m", "data": [{"path": "x"}], "max_seq_len": 32, **changes}
    )


def trainable(names: list[str], *, tied: bool = False) -> int:
    causal = build_skeleton(llama(tied=tied))
    freeze_modules(causal, names)
    return sum(p.numel() for p in causal.parameters() if p.requires_grad)


def load(folder: Path, names: list[str], precision: str = "fp32") -> LoadedModel:
    loaded = load_model(str(folder), device="cpu", precision=precision, attention="auto")
    return replace(loaded, notes=freeze_modules(loaded.causal, names))


def batch() -> MicroBatch:
    ids = np.arange(24, dtype=np.int64) * 7 % 250
    positions = np.tile(np.arange(12), 2)
    return MicroBatch(
        ids, positions, positions > 0, np.repeat([0, 1], 12), (12, 12), ("a", "b"), ("d", "d")
    )


def test_modules_patterns_and_layers_are_frozen_and_nothing_else() -> None:
    whole = 2 * HEAD + LAYERS * LAYER + D
    assert trainable([]) == whole
    assert trainable(["embed_tokens"]) == whole - HEAD
    assert trainable(["layers:0-5"]) == whole - 6 * LAYER
    assert trainable(["layers:9", "lm_head"]) == whole - LAYER - HEAD
    assert trainable(["model.layers.3.mlp"]) == whole - 3 * D * MLP
    assert trainable(["*norm"]) == whole - (2 * LAYERS + 1) * D
    assert trainable(["layers.*.q_proj"]) == whole - LAYERS * D * D


def test_freezing_one_of_two_tied_weights_freezes_both_and_says_so() -> None:
    alone = LAYERS * LAYER + D
    assert trainable(["embed_tokens"], tied=True) == trainable(["lm_head"], tied=True) == alone
    notes = freeze_modules(build_skeleton(llama(tied=True)), ["lm_head"])
    assert notes == ("freeze: the head is the embedding's own weight here, so both are frozen",)
    assert freeze_modules(build_skeleton(llama()), ["lm_head"]) == ()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["embed_token"], "did you mean embed_tokens"),
        (["zzz"], "there are model, embed_tokens, layers"),
        (["layers:4-10"], "10 layers, 0 to 9"),
        (["layers:5-2"], "10 layers, 0 to 9"),
        (["rotary_emb"], "has no weights"),
        (["*"], "leaves nothing to train"),
    ],
)
def test_what_cannot_be_frozen_is_refused_with_the_way_out(names: list[str], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        trainable(names)


def test_freezing_goes_with_method_full_only() -> None:
    with pytest.raises(ValueError, match="`freeze` is for method full"):
        recipe(method="lora", freeze=["lm_head"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_leaves_frozen_weights_alone_and_keeps_nothing_for_them(
    tiny_gpt2: Path, precision: str
) -> None:
    loaded = load(tiny_gpt2, ["wte", "h.0"], precision)
    assert "both are frozen" in loaded.notes[0]
    before = {n: p.detach().clone() for n, p in loaded.causal.named_parameters()}
    optimization = Optimization(loaded.trainable(), Train())
    take_step(
        loaded,
        SCORER,
        optimization,
        WeightSample(optimization.masters),
        [batch()],
        learning_rate=0.01,
        max_grad_norm=1.0,
        seed=0,
        step=1,
    )
    moved = {n for n, p in loaded.causal.named_parameters() if not torch.equal(p, before[n])}
    frozen = {n for n in before if n.startswith(("transformer.wte.", "transformer.h.0."))}
    assert moved == set(before) - frozen
    assert {name.partition("|")[0] for name in optimization.state_tensors()} == moved


def test_no_gradient_is_made_for_a_frozen_head(tiny_model: Path) -> None:
    def saved(names: list[str]) -> Any:
        found = token_losses(load(tiny_model, names), SCORER, batch()).loss_sum.grad_fn
        assert found is not None
        return found.saved_tensors[1]  # type: ignore[attr-defined]

    assert saved([]).shape == (300, 32)
    assert saved(["embed_tokens"]) is None


def test_checkpointing_over_frozen_layers_gives_the_same_gradients(tiny_model: Path) -> None:
    def gradients(*, checkpointing: bool) -> dict[str, torch.Tensor]:
        loaded = load(tiny_model, ["embed_tokens", "layers:0"])
        loaded.network.train()
        if checkpointing:
            set_checkpointing(loaded.causal)
        token_losses(loaded, SCORER, batch()).loss_sum.backward()
        return {n: p.grad for n, p in loaded.trainable().items() if p.grad is not None}

    plain, again = gradients(checkpointing=False), gradients(checkpointing=True)
    assert (
        set(plain) == set(again) == set(load(tiny_model, ["embed_tokens", "layers:0"]).trainable())
    )
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_a_plan_needs_nothing_for_frozen_weights() -> None:
    def planned(**changes: Any) -> tuple[MemoryPlanner, dict[str, int]]:
        setting = Setting(llama(), recipe(**changes), "fp32", parse_device("t4"))
        planner = MemoryPlanner(setting)
        return planner, dict(planner.train_peak(Shape((32,), (32,)), accumulates=True).parts)

    whole, all_parts = planned()
    part, parts = planned(freeze=["embed_tokens", "layers:0-8"])
    left = LAYER + D + HEAD
    assert part.parameters.trainable == left
    assert part.parameters.total == whole.parameters.total == whole.parameters.trainable
    assert parts["weights"] == all_parts["weights"]
    assert 2 * 4 * left <= parts["optimizer"] < 2 * 4 * left + 1024
    assert parts["activations"] < all_parts["activations"] / 2
