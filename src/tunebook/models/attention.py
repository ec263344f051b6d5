"""Attention over flat rows: several documents end to end, each attending only to itself.

Registered with transformers' registry of attention functions, so no model code is needed.
Shapes: H heads, K key/value heads, N tokens of the flat row, D head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from tunebook.errors import ModelError

FLAT = "tunebook_flat"

# Arguments that change what attention computes and that this function does not know. A model that
# passes one of them is caught by `models.check` before training and uses its own attention.
_UNKNOWN = ("softcap", "s_aux", "position_bias", "head_mask")


def flat_attention(
    module: torch.nn.Module,
    query_1HND: torch.Tensor,
    key_1KND: torch.Tensor,
    value_1KND: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: list[int] | None = None,
    sliding_window: int | None = None,
    **others: Any,  # transformers passes whatever the model's forward was given
) -> tuple[torch.Tensor, None]:
    """Attend causally inside each document; returns (1, N, H, D) as transformers expects.

    `cu_seq_lens_q` holds the documents' boundaries (0, n1, n1 + n2, ...) as plain numbers, so that
    reading it never waits for a device. A loop over documents beats one masked N x N product on
    the CPU because short documents stay in cache and no mask is built.
    """
    stated = [name for name in _UNKNOWN if others.get(name) is not None]
    if stated:
        raise ModelError(f"flat attention does not compute `{stated[0]}`; use `attention: eager`")
    heads, kv_heads = query_1HND.shape[1], key_1KND.shape[1]
    if heads != kv_heads:
        key_1KND = key_1KND.repeat_interleave(heads // kv_heads, dim=1)
        value_1KND = value_1KND.repeat_interleave(heads // kv_heads, dim=1)
    n_tokens = query_1HND.shape[2]
    bounds = [0, n_tokens] if cu_seq_lens_q is None else cu_seq_lens_q
    pieces = []
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        length = stop - start
        windowed = sliding_window is not None and length > sliding_window
        pieces.append(
            functional.scaled_dot_product_attention(
                query_1HND[:, :, start:stop],
                key_1KND[:, :, start:stop],
                value_1KND[:, :, start:stop],
                attn_mask=_window_mask(length, sliding_window or 0, query_1HND.device)
                if windowed
                else None,
                dropout_p=dropout,
                is_causal=not windowed,
                scale=scaling,
            )
        )
    joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)
    return joined.transpose(1, 2).contiguous(), None


def own_attention(causal: Any) -> str:
    """Name the attention a model takes documents one by one with: SDPA where it has it."""
    return "sdpa" if getattr(causal, "_supports_sdpa", True) else "eager"


def _window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Say which of the last `window` positions each token sees; (length, length), True = seen."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


def _no_mask(*_args: Any, **_kwargs: Any) -> None:
    """Build no mask: document boundaries travel as lengths."""


def register_flat_attention() -> None:
    """Make `tunebook_flat` known to transformers; calling it twice is harmless."""
    AttentionInterface.register(FLAT, flat_attention)
    AttentionMaskInterface.register(FLAT, _no_mask)
