"""Modules that compute the same with less, against transformers' own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.pytorch_utils import Conv1D

from tunebook.data.batches import MicroBatch
from tunebook.models import fast_modules
from tunebook.models.attention import FLAT, register_flat_attention
from tunebook.models.checkpointing import set_checkpointing
from tunebook.models.load import LoadedModel, load_model, save_weights, wrap_in_lora
from tunebook.recipe.methods import Lora
from tunebook.step.check import choose_scorer
from tunebook.step.forward import Scorer, token_losses

LENGTHS = (9, 12, 5)
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
NO_DROPOUT = {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0}
WINDOW = {"sliding_window": 6}
CONFIGS = {
    "gpt2": lambda: GPT2Config(
        vocab_size=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0, **NO_DROPOUT
    ),
    "llama": lambda: LlamaConfig(**SIZES),
    "mistral": lambda: MistralConfig(**SIZES, **WINDOW),
    "qwen2": lambda: Qwen2Config(**SIZES, **WINDOW, use_sliding_window=True, max_window_layers=1),
    "qwen3": lambda: Qwen3Config(**SIZES),
    "gemma": lambda: GemmaConfig(**SIZES),
}
REPLACED = {"gpt2": 3, "llama": 9, "mistral": 9, "qwen2": 9, "qwen3": 13, "gemma": 3}


def batch() -> MicroBatch:
    positions = np.concatenate([np.arange(n) for n in LENGTHS])
    n = len(positions)
    return MicroBatch(
        ids=np.arange(n) * 37 % 61,
        positions=positions,
        target=(positions > 0) & (np.arange(n) % 3 > 0),
        segment=np.repeat(np.arange(3), LENGTHS),
        lengths=LENGTHS,
        example_ids=("a", "b", "c"),
        sources=("x",) * 3,
    )


def pair(kind: str) -> tuple[Any, LoadedModel]:
    """Make a model as transformers has it, and the same for tunebook."""
    register_flat_attention()
    torch.manual_seed(0)
    own = AutoModelForCausalLM.from_config(CONFIGS[kind](), attn_implementation="eager")
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    ours = AutoModelForCausalLM.from_config(CONFIGS[kind](), attn_implementation=FLAT)
    ours.load_state_dict(own.state_dict())
    return own, LoadedModel(ours, ours, Path(), True, None)


def own_loss(own: Any) -> torch.Tensor:
    """Sum the losses of the documents one by one."""
    given, losses, start = batch(), [], 0
    for length in LENGTHS:
        ids = torch.from_numpy(given.ids[start : start + length])
        target = torch.from_numpy(given.target[start : start + length])[1:]
        logits = own(input_ids=ids[None]).logits[0, :-1]
        losses.append(functional.cross_entropy(logits[target], ids[1:][target], reduction="sum"))
        start += length
    return torch.stack(losses).sum()


def changed(causal: Any) -> int:
    return sum("forward" in module.__dict__ for module in causal.modules())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", CONFIGS)
def test_loss_and_gradients_are_transformers_own(kind: str, checkpointing: bool) -> None:
    own, loaded = pair(kind)
    if checkpointing:
        set_checkpointing(loaded.causal)
    loaded.causal.train()
    found = token_losses(loaded, Scorer(True, True), batch()).loss_sum
    expected = own_loss(own)
    assert changed(loaded.causal) == REPLACED[kind]
    assert found.item() == pytest.approx(expected.item(), rel=2e-6)
    found.backward()
    expected.backward()
    pairs = zip(own.named_parameters(), loaded.causal.parameters(), strict=True)
    for (name, theirs), ours in pairs:
        off = (ours.grad - theirs.grad).norm() / theirs.grad.norm().clamp(min=1e-6)
        assert off < 1e-5, name


def test_a_faster_module_that_computes_something_else_is_not_used(
    tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> LoadedModel:
        return load_model(str(tiny_gpt2), device="cpu", precision="fp32", attention="auto")

    assert choose_scorer(load(), 250) == Scorer(flat=True, direct_head=True, fast=True)
    monkeypatch.setattr(fast_modules, "_gelu_tanh", lambda x: x * 50)
    loaded = load()
    assert choose_scorer(loaded, 250) == Scorer(flat=True, direct_head=True, fast=False)
    assert changed(loaded.causal) == 0


def test_a_class_that_only_looks_alike_keeps_its_own_way() -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

    class Halved(LlamaMLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) / 2

    class Shifted(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden_states) + self.weight

    assert fast_modules._gates(LlamaMLP)
    assert fast_modules._normalizes(LlamaRMSNorm)
    assert not fast_modules._gates(Halved)
    assert not fast_modules._normalizes(Shifted)


@pytest.mark.parametrize("fixture", ["tiny_gpt2", "tiny_model"])
def test_a_saved_model_is_that_which_was_loaded(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(fixture)
    loaded = load_model(str(folder), device="cpu", precision="fp32", attention="auto")
    choose_scorer(loaded, 250)
    assert changed(loaded.causal) > 0
    save_weights(loaded, tmp_path)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def adapted(kind: str, dtype: torch.dtype = torch.float32, **wanted: Any) -> LoadedModel:
    """Put an adapter that already does something on a model; the same at each call."""
    loaded = pair(kind)[1]
    network = wrap_in_lora(loaded.causal.to(dtype), Lora(rank=3, alpha=5, **wanted))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return replace(loaded, network=network.train())


def use_pefts_own(loaded: LoadedModel) -> int:
    """Take the faster forward away from adapted layers, and count them."""
    layers = [m for m in loaded.network.modules() if hasattr(m, "lora_A")]
    for layer in layers:
        assert layer.__dict__.pop("forward").__func__ is fast_modules._adapted_forward
    return len(layers)


@pytest.mark.parametrize(
    ("wanted", "checkpointing"),
    [({}, False), ({}, True), ({"layers": "last:1"}, False), ({"variant": "rslora"}, False)],
)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_adapted_layers_give_pefts_own_loss_and_gradients(
    kind: str, wanted: dict[str, Any], checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, slow = adapted(kind, **wanted), adapted(kind, **wanted)
    n_layers = use_pefts_own(slow)
    for loaded in (fast, slow) if checkpointing else ():
        set_checkpointing(loaded.causal)
    calls: list[Any] = []
    product = fast_modules._Adapted.apply
    monkeypatch.setattr(
        fast_modules._Adapted, "apply", lambda *given: calls.append(given) or product(*given)
    )
    expected = token_losses(slow, Scorer(True, True), batch()).loss_sum
    assert calls == []
    found = token_losses(fast, Scorer(True, True), batch()).loss_sum
    assert len(calls) == n_layers
    assert found.item() == pytest.approx(expected.item(), rel=2e-6)
    found.backward()
    expected.backward()
    assert fast.trainable().keys() == slow.trainable().keys()
    for name, theirs in slow.trainable().items():
        ours = fast.trainable()[name]
        assert (ours.grad - theirs.grad).norm() < 1e-5 * theirs.grad.norm(), name


@pytest.mark.parametrize("state", ["dropout", "dora", "switched off", "merged", "weights learn"])
def test_an_adapter_that_is_more_than_two_matrices_goes_pefts_own_way(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"dropout": {"dropout": 0.5}, "dora": {"variant": "dora"}}.get(state, {})
    fast, slow = adapted("gpt2", **wanted), adapted("gpt2", **wanted)
    use_pefts_own(slow)
    for loaded in (fast, slow):
        if state == "switched off":
            loaded.network.base_model.disable_adapter_layers()
        elif state == "merged":
            loaded.network.merge_adapter()
        elif state == "weights learn":
            loaded.causal.requires_grad_(True)
    monkeypatch.setattr(fast_modules._Adapted, "apply", None)
    losses = []
    for loaded in (fast, slow):
        torch.manual_seed(7)
        losses.append(token_losses(loaded, Scorer(True, True), batch()).losses_M)
    assert torch.equal(*losses)


def test_adapted_layers_in_bf16_are_as_near_to_fp32_as_pefts_own() -> None:
    exact, fast, slow = (adapted("llama", t) for t in (torch.float32, *[torch.bfloat16] * 2))
    use_pefts_own(slow)
    expected, found, theirs = (
        token_losses(loaded, Scorer(True, True), batch()).losses_M.float()
        for loaded in (exact, fast, slow)
    )
    assert (found - expected).norm() <= 1.2 * (theirs - expected).norm() + 1e-3


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_in_bf16_a_young_adapter_is_not_rounded_away(kind: str) -> None:
    torch.manual_seed(0)
    weight_OI, input_NI = torch.randn(64, 256) / 16, torch.randn(512, 256)
    a_RI, b_OR = torch.randn(8, 256) / 16, torch.randn(64, 8) * 1e-4
    weight_OI, input_NI, a_RI, b_OR = (t.bfloat16() for t in (weight_OI, input_NI, a_RI, b_OR))
    base: torch.nn.Module = torch.nn.Linear(256, 64, bias=True)
    if kind == "conv1d":
        base, weight_OI = Conv1D(64, 256), weight_OI.T.contiguous()
    base.requires_grad_(False).bfloat16().weight = torch.nn.Parameter(weight_OI, False)
    base.bias.zero_()
    exact_OI = (weight_OI.T if kind == "conv1d" else weight_OI).float()
    added_NO = input_NI.float() @ a_RI.float().T @ b_OR.float().T
    rounded_NO = base(input_NI) + (input_NI @ a_RI.T) @ b_OR.T
    made_NO = fast_modules._Adapted.apply(input_NI, a_RI, b_OR, base, 1.0)

    def share_kept(result_NO: torch.Tensor) -> float:
        beyond_NO = result_NO.float() - input_NI.float() @ exact_OI.T
        return float((beyond_NO * added_NO).sum() / added_NO.square().sum())

    assert abs(share_kept(rounded_NO)) < 0.5  # as is computed elsewhere
    assert share_kept(made_NO) == pytest.approx(1.0, abs=0.3)
