"""Attention in bf16 on a CPU, whose backward pass is tunebook's own, against the same in fp32."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from tunebook.models import rounded_attention
from tunebook.models.attention import flat_attention

GROWTH = """
import re, sys, torch
from tunebook.models.attention import flat_attention

def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) / 1024

def train(lengths):
    for n in lengths:
        q, k, v = (torch.randn(1, 4, n, 64).bfloat16().requires_grad_() for _ in range(3))
        flat_attention(torch.nn.Module(), q, k, v, None)[0].float().sum().backward()

train([33, 161])
before = held()
train(range(34, 160, 2))
print(held() - before)
"""


def columns(
    heads: int, kv_heads: int, length: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make queries, keys and values, a token's heads side by side as models have them."""
    torch.manual_seed(length)
    rounded = (torch.randn(1, length, n, 16).bfloat16() * 2 for n in (heads, kv_heads, kv_heads))
    q, k, v = (x.to(dtype).transpose(1, 2).requires_grad_() for x in rounded)
    return q, k, v


def gradients(
    heads: int, kv_heads: int, bounds: list[int], dtype: torch.dtype
) -> tuple[torch.Tensor, ...]:
    given = columns(heads, kv_heads, bounds[-1], dtype)
    module = torch.nn.Module()
    made, _ = flat_attention(module, *given, None, scaling=0.3, cu_seq_lens_q=bounds)
    made.float().mul(torch.linspace(-1, 1, 16)).sum().backward()
    found = [made.detach(), *(x.grad for x in given)]
    assert all(x is not None for x in found)
    return tuple(x for x in found if x is not None)


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("bounds", [[0, 1, 9], [0, 130], [0, 40, 700]])
def test_attention_in_bf16_and_its_gradients_are_those_of_fp32_rounded(
    kv_heads: int, bounds: list[int]
) -> None:
    exact = gradients(4, kv_heads, bounds, torch.float32)
    rounded = gradients(4, kv_heads, bounds, torch.bfloat16)
    for found, expected in zip(rounded, exact, strict=True):
        assert found.dtype == torch.bfloat16
        assert apart(found, expected) < 6e-3


def test_gradients_are_nearer_to_fp32_than_those_of_torchs_kernel() -> None:
    exact = gradients(4, 4, [0, 90], torch.float32)[1:]
    own = gradients(4, 4, [0, 90], torch.bfloat16)[1:]
    given = columns(4, 4, 90, torch.bfloat16)
    made = functional.scaled_dot_product_attention(*given, is_causal=True, scale=0.3)
    made.float().mul(torch.linspace(-1, 1, 16)).sum().backward()
    for found, theirs, expected in zip(own, [x.grad for x in given], exact, strict=True):
        assert theirs is not None
        assert apart(found, expected) < 1.05 * apart(theirs, expected)


def test_blocks_of_a_document_add_up_to_what_it_has_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = gradients(4, 2, [0, 50], torch.bfloat16)
    monkeypatch.setattr(rounded_attention, "_BLOCK", 7)
    for found, expected in zip(gradients(4, 2, [0, 50], torch.bfloat16), whole, strict=True):
        assert apart(found, expected) < 3e-3


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_lengths_of_documents_that_were_met() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True
    )
    # torch's kernel keeps some 5 MB for each of the 63 lengths on a processor with AVX-512.
    assert float(re.findall(r"[-\d.]+", done.stdout)[-1]) < 60
