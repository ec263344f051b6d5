"""Cross-entropy of target tokens through the output head, in chunks, its gradient made on the way.

Shapes: N target tokens, D width, V vocabulary. The full N x V logits never exist at once, and no
logits are made for tokens without loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

# 2^24 fp32 logits are 64 MiB: large enough that products are efficient, small beside a model.
_CHUNK_LOGITS = 1 << 24


@dataclass(frozen=True, slots=True)
class _Counted:
    """How often each token counts in the sum (None: once), and where the weight's gradient goes."""

    scales_N: torch.Tensor | None
    home: torch.nn.Parameter | None


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Give (scaled sum of losses, per-token losses); only the sum has a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        labels_N: torch.Tensor,
        counted: _Counted,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scales_N, home = counted.scales_N, counted.home
        n_tokens, vocabulary = hidden_ND.shape[0], weight_VD.shape[0]
        losses_N = torch.empty(n_tokens, dtype=torch.float32, device=hidden_ND.device)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden_ND = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight_VD = home.grad if home is not None and needs_weight else None
        grad_bias_V = (
            torch.zeros_like(bias_V, dtype=torch.float32)
            if bias_V is not None and needs_bias
            else None
        )
        chunk = max(16, _CHUNK_LOGITS // vocabulary)
        for start in range(0, n_tokens, chunk):
            rows = slice(start, start + chunk)
            hidden_CD, labels_C = hidden_ND[rows], labels_N[rows, None]
            logits_CV = functional.linear(hidden_CD, weight_VD, bias_V).float()
            # By hand, in place: torch.logsumexp makes a second array of the size of the logits.
            highest_C1 = logits_CV.amax(dim=-1, keepdim=True)
            labelled_C1 = logits_CV.gather(1, labels_C)
            exp_CV = logits_CV.sub_(highest_C1).exp_()
            sum_C1 = exp_CV.sum(dim=-1, keepdim=True)
            losses_N[rows] = (highest_C1 + sum_C1.log() - labelled_C1).squeeze(1)
            if not (needs_hidden or needs_weight or needs_bias):
                continue
            # d loss / d logits = softmax - one-hot.
            scale_C1 = torch.ones_like(sum_C1) if scales_N is None else scales_N[rows, None]
            grad_CV = exp_CV.mul_(scale_C1 / sum_C1)
            grad_CV.scatter_add_(1, labels_C, -scale_C1)
            if grad_bias_V is not None:
                grad_bias_V += grad_CV.sum(0)
            grad_CV = grad_CV.to(weight_VD.dtype)
            if grad_hidden_ND is not None:
                grad_hidden_ND[rows] = grad_CV @ weight_VD
            if needs_weight:
                grad_weight_VD = _add_product(grad_weight_VD, grad_CV.T, hidden_CD)
        if needs_weight and grad_weight_VD is None:  # there was no token
            grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        if home is not None and needs_weight:
            home.grad, grad_weight_VD = grad_weight_VD, None
        ctx.save_for_backward(grad_hidden_ND, grad_weight_VD, grad_bias_V)
        ctx.dtypes = (weight_VD.dtype, None if bias_V is None else bias_V.dtype)
        ctx.mark_non_differentiable(losses_N)
        scaled_N = losses_N if scales_N is None else losses_N * scales_N
        return scaled_N.sum(dtype=torch.float64).float(), losses_N

    @staticmethod
    def backward(
        ctx: Any, grad_sum: torch.Tensor, _grad_losses: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V = ctx.saved_tensors
        weight_dtype, bias_dtype = ctx.dtypes
        return (
            None if hidden_ND is None else hidden_ND * grad_sum.to(hidden_ND.dtype),
            None if weight_VD is None else (weight_VD * grad_sum).to(weight_dtype),
            None if bias_V is None else (bias_V * grad_sum).to(bias_dtype),
            None,
            None,
        )


def _add_product(
    total_VD: torch.Tensor | None, grad_VC: torch.Tensor, hidden_CD: torch.Tensor
) -> torch.Tensor:
    """Add up in fp32 with as few passes over V x D as can be: each is 3 % of a small batch's step.

    The first product needs no zeros to be added to.
    """
    if total_VD is None:
        return (grad_VC @ hidden_CD).float()
    if hidden_CD.dtype == total_VD.dtype:
        # Not addmm_, whose operations torch's profiler does not count.
        return torch.addmm(total_VD, grad_VC, hidden_CD, out=total_VD)
    return total_VD.add_(grad_VC @ hidden_CD)


def chunked_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    labels_N: torch.Tensor,
    scales_N: torch.Tensor | None = None,
    home: torch.nn.Parameter | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score labels under softmax(hidden @ weight.T + bias).

    Returns the summed loss in nats (differentiable, float32), each token counted `scales_N` times,
    and the losses per token (float32, without gradient). A frozen head gets no weight gradient.
    The weight's gradient is added to `home.grad` (float32) right here, for a sum whose own gradient
    is 1; without a home it goes the way of all gradients.
    """
    if not torch.is_grad_enabled():
        # Inside a Function grad mode is off already, so scoring has to say here that it needs none.
        weight_VD = weight_VD.detach()
        bias_V = None if bias_V is None else bias_V.detach()
    result: tuple[torch.Tensor, torch.Tensor] = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, bias_V, labels_N, _Counted(scales_N, home)
    )
    return result
