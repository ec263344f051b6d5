"""Gradients that are added past autograd: the head's, the looked-up rows', and those clipped."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from tunebook.data.batches import MicroBatch
from tunebook.models.attention import FLAT, register_flat_attention
from tunebook.models.load import LoadedModel
from tunebook.plan.rehearsal import Shape
from tunebook.recipe.tree import Train
from tunebook.step.forward import Scorer
from tunebook.step.optimization import Optimization
from tunebook.step.update import back_propagate

SCORER = Scorer(flat=True, direct_head=True)
SIZES: dict[str, Any] = {"vocab_size": 61, "num_hidden_layers": 2, "num_attention_heads": 2}


def make(kind: str, dtype: torch.dtype) -> LoadedModel:
    torch.manual_seed(3)
    register_flat_attention()
    config: Any = GPT2Config(
        vocab_size=61, n_embd=16, n_layer=2, n_head=2, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0
    )
    if kind != "gpt2":
        # Id 7 is drawn below: a row that never learns from being looked up.
        config = LlamaConfig(**SIZES, hidden_size=16, intermediate_size=24, pad_token_id=7)
        config.tie_word_embeddings = kind == "tied llama"
    causal = AutoModelForCausalLM.from_config(config).to(dtype)
    causal.set_attn_implementation(FLAT)
    return LoadedModel(causal, causal, None, True, None)  # type: ignore[arg-type]


def batches() -> list[MicroBatch]:
    rng, shapes = np.random.default_rng(0), (Shape((9, 5), (4, 3)), Shape((6, 12), (2, 9)))
    made = [shape.batch() for shape in shapes]
    made[1] = replace(made[1], scales=(0.5, 2.0))
    return [replace(one, ids=rng.integers(1, 9, len(one.ids))) for one in made]


def gradients(kind: str, dtype: torch.dtype, *, at_home: bool) -> dict[str, torch.Tensor]:
    loaded = make(kind, dtype)
    made = Optimization(loaded.trainable(), Train(learning_rate=0.1))
    scorer = replace(SCORER, homes=made.homes if at_home else {})
    back_propagate(loaded, scorer, batches(), target_tokens=18, seed=0, step=1)
    return {n: m.grad for n, m in made.masters.items() if m.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "tied llama"])
def test_gradients_added_at_home_are_autograds(kind: str, dtype: torch.dtype) -> None:
    ours, plain = (gradients(kind, dtype, at_home=here) for here in (True, False))
    assert ours.keys() == plain.keys()
    atol = 1e-7 if dtype == torch.float32 else 4e-3
    for name, grad in plain.items():
        torch.testing.assert_close(ours[name], grad, rtol=1e-5, atol=atol, msg=name)


def test_a_micro_batch_without_targets_adds_nothing() -> None:
    loaded = make("llama", torch.float32)
    made = Optimization(loaded.trainable(), Train(learning_rate=0.1))
    silent = replace(batches()[0], target=np.zeros(14, dtype=bool))
    back_propagate(
        loaded, replace(SCORER, homes=made.homes), [silent], target_tokens=1, seed=0, step=1
    )
    assert all(m.grad is not None and not m.grad.any() for m in made.masters.values())


def test_clipping_inside_the_optimizers_kernel_is_clipping_before_it() -> None:
    def moved(*, inside: bool) -> torch.Tensor:
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(40, 30))
        made = Optimization({"w": weight}, Train(learning_rate=0.01))
        for factor in (0.03, 1.0):
            weight.grad = torch.randn(40, 30)
            if not inside:
                weight.grad.mul_(factor)
            made.apply(0.01, factor if inside else 1.0)
        return weight.detach()

    torch.testing.assert_close(moved(inside=True), moved(inside=False), rtol=1e-6, atol=1e-7)


class NoWait(TorchDispatchMode):
    """Fails on what makes the host wait for a GPU: a value or a number of values is asked for."""

    ASKS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "_unique2")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        by_mask = name.startswith("index") and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool
            for indices in args[1:2]
            if isinstance(indices, (list, tuple))
            for i in indices
        )
        assert name not in self.ASKS, name
        assert not by_mask, name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "tied llama"])
def test_back_propagation_asks_for_no_value_of_a_tensor(kind: str) -> None:
    loaded = make(kind, torch.bfloat16)
    made = Optimization(loaded.trainable(), Train(learning_rate=0.1))
    scorer = replace(SCORER, homes=made.homes)
    for mode in (contextlib.nullcontext(), NoWait()):  # which modules are faster is asked once
        with mode:
            back_propagate(loaded, scorer, batches(), target_tokens=18, seed=0, step=1)
    with NoWait(), pytest.raises(AssertionError, match="index"):
        torch.ones(3)[torch.tensor([True, False, True])]
