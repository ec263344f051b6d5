"""What learns nothing costs nothing: no backward below the adapter, and answers kept."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from tunebook.data.batches import MicroBatch
from tunebook.errors import ModelError
from tunebook.models.attention import FLAT, register_flat_attention
from tunebook.models.checkpointing import set_checkpointing
from tunebook.models.load import LoadedModel, wrap_in_lora
from tunebook.models.skeleton import build_skeleton
from tunebook.plan.devices import parse_device
from tunebook.plan.memory import MemoryPlanner, Setting
from tunebook.plan.rehearsal import Shape
from tunebook.recipe.tree import Recipe
from tunebook.step.below import Below, find_below
from tunebook.step.check import check_below
from tunebook.step.forward import Scorer, token_losses

V, D, MLP, LAYERS = 320, 32, 64, 4
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SCORER = Scorer(flat=True, direct_head=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def gpt2(**changes: Any) -> GPT2Config:
    return GPT2Config(
        vocab_size=V,
        n_embd=D,
        n_layer=LAYERS,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
        **{**NO_DROPOUT, **changes},
    )


def llama(**changes: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        **changes,
    )


def recipe(cache: object = "memory", **lora: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "a",
            "model": "m",
            "data": [{"path": "x"}],
            "method": "lora",
            "lora": {"rank": 4, "layers": "last:2", "cache_activations": cache, **lora},
        }
    )


def adapted(config: Any, wanted: Recipe, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Make a random model with an adapter that changes something."""
    register_flat_attention()
    torch.manual_seed(0)
    causal = AutoModelForCausalLM.from_config(config).to(dtype)
    causal.set_attn_implementation(FLAT)
    network = wrap_in_lora(causal, wanted.lora)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return LoadedModel(network, causal, Path(), True, None)


def batch(*lengths: int, first: int = 0) -> MicroBatch:
    shape = Shape(lengths, tuple(n - 1 for n in lengths)).batch()
    ids = np.concatenate([(np.arange(n) * 7 + n + first) % V for n in lengths])
    return replace(shape, ids=ids.astype(np.int64))


@contextmanager
def saved_for_backward() -> Iterator[list[torch.Tensor]]:
    """Collect what autograd keeps meanwhile."""
    found: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", [gpt2(), llama()], ids=["gpt2", "llama"])
def test_nothing_is_kept_for_or_computed_in_a_backward_below_the_adapter(
    config: Any, dtype: torch.dtype
) -> None:
    loaded = adapted(config, recipe(False), dtype)
    loaded.network.train()
    layers = Below(loaded.causal, 2)._layers
    n_saved: list[int] = []
    with saved_for_backward() as saved:
        layers[2].register_forward_pre_hook(lambda *_: n_saved.append(len(saved)))
        found = token_losses(loaded, SCORER, batch(24, 9))
    assert n_saved == [0]
    # Of the frozen head, only the gradient of what enters it: not that of its weight.
    frozen = {
        p.untyped_storage()._cdata for p in loaded.network.parameters() if not p.requires_grad
    }
    own = [t for t in saved if t.untyped_storage()._cdata not in frozen]
    assert not [t for t in own if tuple(t.shape) == (V, D)]
    # An adapter's input is kept as it is, not in another precision.
    assert not [t for t in own if t.dtype != dtype and t.shape[-1:] in ((4 * D,), (MLP,))]
    found.loss_sum.backward()
    assert all(p.grad is None for p in loaded.network.parameters() if not p.requires_grad)
    grads = [p.grad for p in loaded.trainable().values()]
    assert grads
    assert all(g is not None and bool(g.abs().sum() > 0) for g in grads)


def gradients(loaded: LoadedModel, scorer: Scorer, *batches: MicroBatch) -> list[torch.Tensor]:
    loaded.network.zero_grad()
    losses = []
    for one in batches:
        found = token_losses(loaded, scorer, one)
        found.loss_sum.backward()
        losses.append(found.losses_M)
    return [*losses, *(p.grad.clone() for p in loaded.trainable().values() if p.grad is not None)]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("config", [gpt2(), llama()], ids=["gpt2", "llama"])
def test_kept_answers_give_the_bits_of_fresh_ones_in_any_company(
    config: Any, checkpointing: bool
) -> None:
    loaded = adapted(config, recipe())
    if checkpointing:
        set_checkpointing(loaded.causal)
    loaded.network.train()
    fresh = find_below(loaded.causal, recipe())
    kept = find_below(loaded.causal, recipe())
    assert fresh is not None
    assert kept is not None
    kept.keep(24 + 9 + 3, None)
    rows = [batch(24, 9), batch(3)]
    others = [batch(9, 3), batch(24)]
    for turn in (rows, others, others, rows):
        expected = gradients(loaded, replace(SCORER, below=fresh), *turn)
        found = gradients(loaded, replace(SCORER, below=kept), *turn)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        plain = gradients(loaded, SCORER, *turn)
        for a, b in zip(found, plain, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert kept.kept_bytes == (24 + 9 + 3) * D * 4
    assert kept.ended is None
    check_below(loaded, replace(SCORER, below=kept), V)


def test_a_kept_answer_that_is_another_ends_the_keeping_with_a_word() -> None:
    loaded = adapted(gpt2(), recipe())
    below = find_below(loaded.causal, recipe())
    assert below is not None
    below.keep(100, None)
    scorer = replace(SCORER, below=below)
    expected = token_losses(loaded, scorer, batch(24, 9)).losses_M
    assert below._kept is not None
    below._kept._rows_KD[30, 0] += 1e-6
    found = token_losses(loaded, scorer, batch(24, 9)).losses_M
    assert torch.equal(found, expected)
    assert "differs from what was kept of it" in str(below.ended)
    assert below.kept_bytes == 0


def test_an_answer_that_a_full_disk_cut_short_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, tries = os.pwritev, itertools.count()

    def fill_up(file: int, parts: list[memoryview], at: int) -> int:
        if next(tries):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, [parts[0][:-5]], at)

    monkeypatch.setattr(os, "pwritev", fill_up)
    loaded = adapted(llama(), recipe("disk"))
    below = Below(loaded.causal, 2)
    scorer, row = Scorer(flat=True, direct_head=True, below=below), batch(9, 4)
    fresh = gradients(loaded, scorer, row)
    below.keep(100, tmp_path)
    for _ in range(2):
        for found, expected in zip(gradients(loaded, scorer, row), fresh, strict=True):
            assert torch.equal(found, expected)
    assert below.ended is None
    assert below.kept_bytes == 0


def test_layers_that_lean_on_more_than_the_last_hidden_state_are_refused() -> None:
    loaded = adapted(gpt2(), recipe())
    layers = Below(loaded.causal, 2)._layers
    seen: list[torch.Tensor] = []
    layers[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.mean()))
    layers[3].register_forward_hook(lambda _module, _inputs, output: output * (1 + seen[-1]))
    scorer = replace(SCORER, below=find_below(loaded.causal, recipe()))
    with pytest.raises(ModelError, match=r"do not go by.*cache_activations: false"):
        check_below(loaded, scorer, V)


@pytest.mark.parametrize(
    ("config", "lora", "why"),
    [
        (gpt2(resid_pdrop=0.1), {}, "dropout .resid_pdrop 0.1.*config.json"),
        (gpt2(embd_pdrop=0.2), {}, "embd_pdrop 0.2"),
        (llama(attention_dropout=0.1), {}, "attention_dropout 0.1"),
        (gpt2(), {"layers": [0, 3]}, "layer 0 is adapted.*last:1"),
        (gpt2(), {"layers": "all", "target_modules": ["wte", "c_attn"]}, "is in no layer"),
    ],
)
def test_a_plan_refuses_what_differs_from_epoch_to_epoch(
    config: Any, lora: dict[str, Any], why: str
) -> None:
    setting = Setting(config, recipe(**lora), "fp32", parse_device("t4"))
    with pytest.raises(ModelError, match=f"cache_activations memory: .*{why}.*false"):
        MemoryPlanner(setting)


def test_dropout_of_the_adapter_and_of_other_heads_is_no_hindrance() -> None:
    config = gpt2(summary_first_dropout=0.3)
    MemoryPlanner(Setting(config, recipe(dropout=0.1), "fp32", parse_device("t4")))
    assert build_skeleton(config).config.summary_first_dropout == 0.3
