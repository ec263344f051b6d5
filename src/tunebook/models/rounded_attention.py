"""Causal attention of one document in bf16 on a CPU, with a backward pass of its own.

torch's kernel for it makes code anew for every length of document it has not met: 6 ms and 6 MB
each, which it keeps (torch 2.13, processors with AVX-512), and is then three times slower than the
same in fp32.
Shapes: H heads, K key/value heads, G = H / K, W width of a head, n tokens, m of them in a block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

# Tokens whose scores are made together: enough for a quick product, few enough for a cache.
_BLOCK = 256


class _Attended(torch.autograd.Function):
    """softmax(q k^T) v, keeping q, k and v; its gradients are made in fp32 (arXiv:2205.14135)."""

    @staticmethod
    def forward(
        ctx: Any,
        query_1HnW: torch.Tensor,
        key_1KnW: torch.Tensor,
        value_1KnW: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(query_1HnW, key_1KnW, value_1KnW)
        ctx.scaling = scaling
        return functional.scaled_dot_product_attention(
            query_1HnW,
            key_1KnW,
            value_1KnW,
            is_causal=True,
            scale=scaling,
            enable_gqa=query_1HnW.shape[1] != key_1KnW.shape[1],
        )

    @staticmethod
    def backward(ctx: Any, grad_1HnW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query_1HnW, key_1KnW, value_1KnW = ctx.saved_tensors
        _, heads, length, width = query_1HnW.shape
        kv_heads = key_1KnW.shape[1]
        groups = heads // kv_heads
        key_KnW, value_KnW = key_1KnW[0].float() * ctx.scaling, value_1KnW[0].float()
        grad_query_1HnW = torch.empty_like(query_1HnW)
        grad_key_KnW = grad_value_KnW = None
        # From the last block on, which is the one that sees every key.
        for start in reversed(range(0, length, _BLOCK)):
            stop = min(start + _BLOCK, length)
            rows = (kv_heads, groups * (stop - start), width)
            # Heads that share a key stand below each other, as more rows of one product.
            query_KmW, grad_KmW = (
                column[0, :, start:stop].float().reshape(rows) for column in (query_1HnW, grad_1HnW)
            )
            seen_KnW, values_KnW = key_KnW[:, :stop], value_KnW[:, :stop]
            hidden_mn = torch.full((stop - start, stop), -torch.inf, device=query_KmW.device)
            hidden_mn.triu_(start + 1)
            if groups > 1:
                hidden_mn = hidden_mn.repeat(groups, 1)
            weights_Kmn = torch.baddbmm(hidden_mn, query_KmW, seen_KnW.mT).softmax(-1)
            grad_Kmn = grad_KmW @ values_KnW.mT
            # d softmax: each weight's gradient less the mean of its row under the weights.
            grad_Kmn.sub_((grad_Kmn * weights_Kmn).sum(-1, keepdim=True)).mul_(weights_Kmn)
            grad_query_1HnW[0, :, start:stop] = (grad_Kmn @ seen_KnW).view(heads, -1, width)
            of_values_KnW, of_keys_KnW = weights_Kmn.mT @ grad_KmW, grad_Kmn.mT @ query_KmW
            if grad_key_KnW is None or grad_value_KnW is None:
                grad_key_KnW, grad_value_KnW = of_keys_KnW, of_values_KnW
            else:
                grad_key_KnW[:, :stop] += of_keys_KnW
                grad_value_KnW[:, :stop] += of_values_KnW
        assert grad_key_KnW is not None
        assert grad_value_KnW is not None
        grad_key_KnW.mul_(ctx.scaling)
        return (
            grad_query_1HnW,
            torch.empty_like(key_1KnW).copy_(grad_key_KnW),
            torch.empty_like(value_1KnW).copy_(grad_value_KnW),
            None,
        )


def rounded_attention(
    query_1HnW: torch.Tensor,
    key_1KnW: torch.Tensor,
    value_1KnW: torch.Tensor,
    scaling: float | None,
) -> torch.Tensor:
    """Attend causally inside one document of half precision on a CPU; returns (1, H, n, W)."""
    scaling = query_1HnW.shape[-1] ** -0.5 if scaling is None else scaling
    made: torch.Tensor = _Attended.apply(query_1HnW, key_1KnW, value_1KnW, scaling)  # type: ignore[no-untyped-call]
    return made
