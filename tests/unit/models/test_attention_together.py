"""Attention of all documents by one kernel, as a GPU has it, against the loop over documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tunebook.models import attention
from tunebook.models.attention import DOCUMENTS, FLAT, flat_attention, register_flat_attention
from tunebook.models.load import LoadedModel
from tunebook.plan.rehearsal import Rehearsal, Shape
from tunebook.recipe.tree import Recipe
from tunebook.step.forward import Scorer, to_device, token_losses

LENGTHS = (7, 1, 12, 4)
BOUNDS = [0, 7, 8, 20, 24]


def kernel(  # as torch documents it: window_size is how many tokens are seen to the left and right
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    assert cu_seq_q.dtype == torch.int32
    assert max_q == max_k == int(cu_seq_q.diff().max())
    assert enable_gqa or query.shape[1] == key.shape[1]
    left, right = window_size
    parts = []
    for start, stop in zip(cu_seq_q.tolist(), cu_seq_q.tolist()[1:], strict=False):
        q, k, v = (x[start:stop].float() for x in (query, key, value))
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q, k) * (scale or query.shape[-1] ** -0.5)
        offset = torch.arange(stop - start)[None] - torch.arange(stop - start)[:, None]
        hidden = ((offset > right) & (right >= 0)) | ((offset < -left) & (left >= 0))
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        parts.append(torch.einsum("hij,jhd->ihd", weights, v).to(query.dtype))
    return torch.cat(parts)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[bool]:
    made: list[bool] = []

    def noted(*args: Any, **keywords: Any) -> torch.Tensor:
        made.append("enable_gqa" in keywords)
        return kernel(*args, **keywords)

    monkeypatch.setattr(attention, "_varlen", lambda: (noted, getattr(request, "param", True)))
    return made


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("calls", [True, False], indirect=True, ids=["shares", "does not"])
def test_one_kernel_for_all_documents_attends_as_the_loop(
    calls: list[bool], window: int | None
) -> None:
    documents = torch.tensor(BOUNDS, dtype=torch.int32), max(LENGTHS)
    found = []
    for keywords in ({}, {DOCUMENTS: documents}):
        torch.manual_seed(0)
        columns = [torch.randn(1, n, 24, 8).bfloat16().requires_grad_() for n in (4, 2, 2)]
        answer, _ = flat_attention(
            torch.nn.Identity(),
            *columns,
            None,
            scaling=0.5,
            cu_seq_lens_q=BOUNDS,
            sliding_window=window,
            **keywords,
        )
        answer.backward(torch.randn(1, 24, 4, 8).bfloat16())
        found.append([answer, *(x.grad for x in columns)])
    assert len(calls) == 1
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0.02, atol=0.03)


@pytest.mark.parametrize(
    ("width", "dtype", "dropout"),
    [(8, torch.float32, 0.0), (8, torch.bfloat16, 0.1), (12, torch.bfloat16, 0.0)],
)
def test_what_the_kernel_does_not_take_goes_through_the_loop(
    calls: list[bool], width: int, dtype: torch.dtype, dropout: float
) -> None:
    documents = torch.tensor(BOUNDS, dtype=torch.int32), max(LENGTHS)
    columns = [torch.randn(1, n, 24, width).to(dtype) for n in (4, 2, 2)]
    bounds: dict[str, Any] = {"cu_seq_lens_q": BOUNDS, DOCUMENTS: documents}
    answer, _ = flat_attention(torch.nn.Identity(), *columns, None, dropout=dropout, **bounds)
    assert answer.shape == (1, 24, 4, width)
    assert not calls


def llama() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )


def test_a_micro_batch_hands_the_kernel_its_boundaries(calls: list[bool]) -> None:
    register_flat_attention()
    torch.manual_seed(0)
    causal = AutoModelForCausalLM.from_config(llama(), attn_implementation=FLAT).bfloat16()
    loaded = LoadedModel(causal, causal, None, True, None)  # type: ignore[arg-type]
    batch = Shape(LENGTHS, (3, 1, 6, 2)).batch()
    batch = replace(batch, ids=np.arange(len(batch.ids)) * 37 % 61)
    scorer = Scorer(flat=True, direct_head=True)
    plain, ours = (
        token_losses(loaded, replace(scorer, varlen=varlen), batch).losses_M
        for varlen in (False, True)
    )
    assert calls == [True, True]
    torch.testing.assert_close(ours, plain, rtol=0.01, atol=0.01)


def test_a_gpus_plan_takes_no_more_for_many_documents_than_for_one() -> None:
    given = {"name": "n", "model": "m", "data": [{"path": "d"}]}
    run = Recipe.model_validate(given | {"train": {"max_steps": 1, "learning_rate": 1e-4}})
    rehearsal = Rehearsal(llama(), run, "bf16", on_cuda=True)
    one, many = (
        rehearsal.train((Shape(lengths, targets),)).n_bytes
        for lengths, targets in (((800,), (80,)), ((100,) * 8, (10,) * 8))
    )
    assert many == pytest.approx(one, rel=2e-4)


def test_arrays_go_to_a_gpu_from_pinned_memory_without_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        done.append("pinned")
        return tensor

    def to(tensor: torch.Tensor, device: torch.device, *, non_blocking: bool) -> torch.Tensor:
        done.append(f"copied to {device}" if non_blocking else "waited")
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    assert to_device(np.arange(3), torch.device("cuda")).tolist() == [0, 1, 2]
    assert done == ["pinned", "copied to cuda"]
