"""Linear layers with the memory of 4-bit weights, for rehearsals; they compute nothing.

bitsandbytes packs two weights to a byte, with an fp32 scale for every 64 of them; double
quantization stores those scales in a byte each, with an fp32 scale for every 256 (Dettmers et al.
2023, section 3). A product first unpacks the whole weight, forward and backward, and keeps none.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

_BLOCK = 64
_SCALES = 256


class _Product(torch.autograd.Function):
    """x @ W + b, where W is there only while it is used."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, n_in: int, n_out: int, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.sizes = (n_in, n_out)
        return functional.linear(x, x.new_empty(n_out, n_in), bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        n_in, n_out = ctx.sizes
        return grad @ grad.new_empty(n_out, n_in), None, None, None


def packed_bytes(n_weights: int, *, double: bool) -> int:
    """Give the bytes that a matrix takes in 4 bits, its scales included."""
    blocks = math.ceil(n_weights / _BLOCK)
    scales = blocks + 4 * math.ceil(blocks / _SCALES) if double else 4 * blocks
    return math.ceil(n_weights / 2) + scales


def pack_linear_layers(causal: nn.Module, *, double: bool) -> None:
    """Give every linear layer but the head the memory of a 4-bit one, in place, on meta."""
    # An adapter may stand around it.
    head = set(causal.get_output_embeddings().modules())  # type: ignore[operator]
    for module in list(causal.modules()):
        if not isinstance(module, (nn.Linear, Conv1D)) or module in head:
            continue
        if module.weight.requires_grad:
            continue  # an adapter's own matrices
        n_in, n_out = module.weight.shape
        if isinstance(module, nn.Linear):
            n_in, n_out = n_out, n_in
        n_bytes = packed_bytes(module.weight.numel(), double=double)
        data = torch.empty(n_bytes, dtype=torch.uint8, device="meta")
        module.weight = nn.Parameter(data, requires_grad=False)
        module.forward = _make_forward(module, n_in, n_out)  # type: ignore[method-assign]


def _make_forward(module: nn.Module, n_in: int, n_out: int) -> Any:
    def forward(x: torch.Tensor) -> torch.Tensor:
        # peft copies what a 4-bit layer gives, before it adds to it.
        out: torch.Tensor = _Product.apply(x, n_in, n_out, module.bias)  # type: ignore[no-untyped-call]
        return out.clone()

    return forward
