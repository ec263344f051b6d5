"""The gradient of the embedding, of which a micro-batch has only the rows of its tokens.

Autograd makes it V x D and adds that to what there is, the tied head's for one: several passes over
the largest weight of a small model, for a few hundred rows. Shapes: N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class LookedUp:
    """What was looked up in one embedding, and the gradients of it once they are there."""

    def __init__(self, embedding: nn.Embedding, home: nn.Parameter) -> None:
        self._embedding, self._home = embedding, home
        self._found: list[tuple[torch.Tensor, torch.Tensor]] = []

    def cut(self, _module: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> Any:
        """Stand in for an output of the embedding, without the way back to its weight."""
        leaf = out.detach().requires_grad_()
        self._found.append((args[0], leaf))
        return leaf

    @torch.no_grad()
    def add_up(self) -> None:
        """Add the rows' gradients to what the embedding's home has, in fp32."""
        for ids, leaf in self._found:
            if leaf.grad is None:
                continue
            if self._home.grad is None:
                self._home.grad = torch.zeros_like(self._home)
            rows_N, grad_ND = ids.reshape(-1), leaf.grad.reshape(-1, leaf.shape[-1]).float()
            if self._embedding.padding_idx is not None:
                grad_ND = grad_ND * (rows_N != self._embedding.padding_idx)[:, None]
            if rows_N.device.type == "cpu":
                self._home.grad.index_add_(0, rows_N, grad_ND)
            else:  # there index_add_ adds in any order, and so rounds in many ways
                self._home.grad.index_put_((rows_N,), grad_ND, accumulate=True)


@contextmanager
def rows_apart(
    causal: Any, homes: Mapping[nn.Parameter, nn.Parameter]
) -> Iterator[LookedUp | None]:
    """Keep the gradients of looked-up rows apart while a model is run forward and backward.

    None where the embedding has no home for them, or does more than look up.
    """
    embedding = causal.get_input_embeddings()
    plain = (
        type(embedding) is nn.Embedding
        and embedding.max_norm is None
        and not embedding.scale_grad_by_freq
        and not embedding.sparse
    )
    home = homes.get(embedding.weight) if plain else None
    if home is None:
        yield None
        return
    rows = LookedUp(embedding, home)
    hook = embedding.register_forward_hook(rows.cut)
    try:
        yield rows
    finally:
        hook.remove()
