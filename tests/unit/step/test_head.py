"""The chunked head against torch's own cross-entropy."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tunebook.step import head
from tunebook.step.head import chunked_cross_entropy


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    # 16 rows a chunk, so that 50 tokens take four chunks, the last one short.
    monkeypatch.setattr(head, "_CHUNK_LOGITS", 1)


def _inputs(bias: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(50, 8, generator=generator, requires_grad=True)
    weight = torch.randn(31, 8, generator=generator, requires_grad=True)
    offset = torch.randn(31, generator=generator, requires_grad=True) if bias else None
    return hidden, weight, offset, torch.randint(31, (50,), generator=generator)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.usefixtures("small_chunks")
def test_losses_and_gradients_equal_torchs(bias: bool) -> None:
    hidden, weight, offset, labels = _inputs(bias)
    learning = [t for t in (hidden, weight, offset) if t is not None]
    total, losses = chunked_cross_entropy(hidden, weight, offset, labels)
    (total / 7).backward()
    ours = [t.grad.clone() for t in learning if t.grad is not None]
    for tensor in learning:
        tensor.grad = None
    reference = functional.cross_entropy(
        functional.linear(hidden, weight, offset), labels, reduction="none"
    )
    (reference.sum() / 7).backward()
    torch.testing.assert_close(losses, reference.detach())
    torch.testing.assert_close(total, reference.sum())
    assert len(ours) == len(learning)
    for mine, tensor in zip(ours, learning, strict=True):
        torch.testing.assert_close(mine, tensor.grad)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, _, labels = _inputs(bias=False)
    frozen = weight.detach()
    total, _ = chunked_cross_entropy(hidden, frozen, None, labels)
    total.backward()
    assert frozen.grad is None
    assert hidden.grad is not None
