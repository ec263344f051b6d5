"""Attention over flat rows: several documents end to end, each attending only to itself.

Registered with transformers' registry of attention functions, so no model code is needed.
Shapes: H heads, K key/value heads, N tokens of the flat row, D head width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

from tunebook.errors import ModelError
from tunebook.models.rounded_attention import rounded_attention

FLAT = "tunebook_flat"

# Keyword of a model's forward: the documents' boundaries once more, an int32 tensor on the device,
# and the longest length. Given where torch's kernel for all documents together may be used.
DOCUMENTS = "tunebook_documents"

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
    the CPU because short documents stay in cache and no mask is built. On a GPU it launches kernels
    for each document, so there one kernel does all, where it can (DOCUMENTS; arXiv:2307.08691).
    """
    stated = [name for name in _UNKNOWN if others.get(name) is not None]
    if stated:
        raise ModelError(f"flat attention does not compute `{stated[0]}`; use `attention: eager`")
    n_tokens = query_1HND.shape[2]
    bounds = [0, n_tokens] if cu_seq_lens_q is None else cu_seq_lens_q
    lengths = [stop - start for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
    documents = others.get(DOCUMENTS)
    if documents is not None and not dropout and _kernel_takes(query_1HND, key_1KND, value_1KND):
        joined_1NHD = _together(
            query_1HND, key_1KND, value_1KND, documents, scaling, sliding_window
        )
        return joined_1NHD, None
    heads, kv_heads = query_1HND.shape[1], key_1KND.shape[1]
    # The CPU's kernel shares keys and values among heads; of a GPU's, that for fp32 does not.
    shares = query_1HND.device.type == "cpu" and documents is None
    if heads != kv_heads and not shares:
        key_1KND, value_1KND = _repeated(key_1KND, value_1KND, heads // kv_heads)
    rounded = shares and not dropout and _wants_rounded(query_1HND, key_1KND, value_1KND)
    # Split and joined along the tokens where a token's heads lie side by side: in both directions
    # that copies each document once, where slices would each get a gradient of the whole row.
    columns = (
        column.transpose(1, 2).split(lengths, dim=1)
        for column in (query_1HND, key_1KND, value_1KND)
    )
    pieces = []
    for query_1nHD, key_1nKD, value_1nKD in zip(*columns, strict=True):
        length = query_1nHD.shape[1]
        windowed = sliding_window is not None and length > sliding_window
        if rounded and not windowed:
            attended_1HnD = rounded_attention(
                query_1nHD.transpose(1, 2),
                key_1nKD.transpose(1, 2),
                value_1nKD.transpose(1, 2),
                scaling,
            )
            pieces.append(attended_1HnD.transpose(1, 2))
            continue
        attended_1HnD = functional.scaled_dot_product_attention(
            query_1nHD.transpose(1, 2),
            key_1nKD.transpose(1, 2),
            value_1nKD.transpose(1, 2),
            attn_mask=_window_mask(length, sliding_window or 0, query_1HND.device)
            if windowed
            else None,
            dropout_p=dropout,
            is_causal=not windowed,
            scale=scaling,
            enable_gqa=query_1nHD.shape[2] != key_1nKD.shape[2],
        )
        pieces.append(attended_1HnD.transpose(1, 2))
    joined_1NHD = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
    return joined_1NHD.contiguous(), None


def _together(
    query_1HND: torch.Tensor,
    key_1KND: torch.Tensor,
    value_1KND: torch.Tensor,
    documents: tuple[torch.Tensor, int],
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """Attend inside all documents with one kernel; returns (1, N, H, D)."""
    attend, shares = _varlen()
    assert attend is not None
    bounds, longest = documents
    groups = query_1HND.shape[1] // key_1KND.shape[1]
    stated = {}
    if groups > 1 and shares:
        stated = {"enable_gqa": True}
    elif groups > 1:
        key_1KND, value_1KND = _repeated(key_1KND, value_1KND, groups)
    windowed = sliding_window is not None and longest > sliding_window
    attended_NHD: torch.Tensor = attend(
        *(column[0].transpose(0, 1) for column in (query_1HND, key_1KND, value_1KND)),
        bounds,
        bounds,
        longest,
        longest,
        scale=scaling,
        # How many tokens before its own, and after, a token sees; -1: all.
        window_size=((sliding_window or 0) - 1 if windowed else -1, 0),
        **stated,
    )
    return attended_NHD[None]


def _kernel_takes(
    query_1HND: torch.Tensor, key_1KND: torch.Tensor, value_1KND: torch.Tensor
) -> bool:
    """Tell whether the kernel takes heads of this type and width; wider ones some cards take."""
    width = query_1HND.shape[-1]
    return (
        {query_1HND.dtype, key_1KND.dtype, value_1KND.dtype} <= {torch.bfloat16, torch.float16}
        and value_1KND.shape[-1] == width
        and width % 8 == 0
        and width <= 192
        and _varlen()[0] is not None
    )


@cache
def _varlen() -> tuple[Callable[..., Any] | None, bool]:
    """Give torch's kernel, and whether it shares keys and values among heads.

    None where it takes no scale (2.10). Sharing came after 2.11.
    """
    from torch.nn.attention.varlen import varlen_attn  # here: the CPU never needs it

    takes = inspect.signature(varlen_attn).parameters.keys()
    return varlen_attn if takes >= {"scale", "window_size"} else None, "enable_gqa" in takes


def _repeated(
    key_1KND: torch.Tensor, value_1KND: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    return key_1KND.repeat_interleave(groups, dim=1), value_1KND.repeat_interleave(groups, dim=1)


def _wants_rounded(*columns: torch.Tensor) -> bool:
    """Tell whether gradients are wanted in half precision, of which torch's CPU kernel is slow."""
    return columns[0].dtype in (torch.bfloat16, torch.float16) and any(
        column.requires_grad for column in columns
    )


def own_attention(causal: Any) -> str:
    """Name the attention a model takes documents one by one with: SDPA where it has it."""
    return "sdpa" if getattr(causal, "_supports_sdpa", True) else "eager"


def _window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Say which of the last `window` positions each token sees; (length, length), True = seen."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


def register_flat_attention() -> None:
    """Make `tunebook_flat` known to transformers; calling it twice is harmless.

    Not as a way to make masks, even none: without one of that name transformers makes no mask,
    with one it first looks for documents in the positions, and so waits for the device.
    """
    AttentionInterface.register(FLAT, flat_attention)
