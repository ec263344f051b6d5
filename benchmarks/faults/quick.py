"""The forward pass of small GPT-2 and Llama models over flat rows, without what takes their time.

Of models this small, most of a step is spent in Python around the arithmetic. Documents of a row
are padded to attend together; what comes out is the model's own answer, as `check` makes sure.
Shapes: N tokens of the flat row, B documents of at most L tokens, H heads of width d.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


def use_quick_forward(network: Any, *, check: bool = False) -> None:
    """Replace the decoder's forward pass; `check` compares it with the one it replaces."""
    decoder = network.base_model
    own = decoder.forward
    quick = _gpt2 if network.config.model_type == "gpt2" else _llama(decoder)
    decoder.forward = lambda **inputs: (quick(decoder, **inputs),)
    if check:
        inputs = {
            "input_ids": torch.arange(3, 30)[None],
            "position_ids": torch.tensor([[*range(12), *range(15)]]),
            "cu_seq_lens_q": [0, 12, 27],
            "use_cache": False,
        }
        with torch.no_grad():
            torch.testing.assert_close(decoder(**inputs)[0], own(**inputs)[0], atol=1e-4, rtol=1e-4)


class _Together:
    """Documents of a flat row, padded to attend at once; padding is behind what it could touch."""

    def __init__(self, bounds: list[int], positions_N: torch.Tensor) -> None:
        starts = torch.tensor(bounds[:-1])
        lengths = torch.tensor(bounds[1:]) - starts
        self.n, longest = len(starts), int(lengths.max())
        within = torch.arange(longest)
        self.from_flat = (starts[:, None] + within.minimum(lengths[:, None] - 1)).reshape(-1)
        self.to_flat = torch.arange(self.n).repeat_interleave(lengths) * longest + positions_N

    def attend(self, q_NE: torch.Tensor, k_NE: torch.Tensor, v_NE: torch.Tensor, d: int) -> Any:
        """Attend causally inside each document; gives the heads side by side, flat again."""
        q, k, v = (
            x.index_select(0, self.from_flat).view(self.n, -1, x.shape[1] // d, d).transpose(1, 2)
            for x in (q_NE, k_NE, v_NE)
        )
        if q.shape[1] != k.shape[1]:
            times = q.shape[1] // k.shape[1]
            k, v = (x.repeat_interleave(times, dim=1) for x in (k, v))
        found = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return found.transpose(1, 2).reshape(-1, q_NE.shape[1]).index_select(0, self.to_flat)


def _gpt2(
    decoder: Any,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    cu_seq_lens_q: list[int],
    **_faster: Any,  # what only the product's own way of computing asks for
) -> torch.Tensor:
    together = _Together(cu_seq_lens_q, position_ids[0])
    x = decoder.wte(input_ids[0]) + decoder.wpe(position_ids[0])
    for block in decoder.h:
        q, k, v = block.attn.c_attn(block.ln_1(x)).split(x.shape[1], dim=1)
        x = x + block.attn.c_proj(together.attend(q, k, v, block.attn.head_dim))
        x = x + block.mlp.c_proj(block.mlp.act(block.mlp.c_fc(block.ln_2(x))))
    return decoder.ln_f(x)[None]


def _llama(made_for: Any) -> Any:
    config = made_for.config
    d = made_for.layers[0].self_attn.head_dim
    every = torch.arange(config.max_position_embeddings)[None]
    cos_PD, sin_PD = (x[0] for x in made_for.rotary_emb(torch.zeros(1), every))

    def norm(module: Any, x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon)

    def turn(x_NE: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x_NE.view(len(x_NE), -1, d)
        half = torch.cat((-x[..., d // 2 :], x[..., : d // 2]), dim=-1)
        return (x * cos + half * sin).view_as(x_NE)

    def forward(
        decoder: Any,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        cu_seq_lens_q: list[int],
        **_faster: Any,
    ) -> torch.Tensor:
        together = _Together(cu_seq_lens_q, position_ids[0])
        cos, sin = cos_PD[position_ids[0], None], sin_PD[position_ids[0], None]
        x = decoder.embed_tokens(input_ids[0])
        for layer in decoder.layers:
            heads, mlp = layer.self_attn, layer.mlp
            y = norm(layer.input_layernorm, x)
            q, k = turn(heads.q_proj(y), cos, sin), turn(heads.k_proj(y), cos, sin)
            x = x + heads.o_proj(together.attend(q, k, heads.v_proj(y), d))
            y = norm(layer.post_attention_layernorm, x)
            x = x + mlp.down_proj(functional.silu(mlp.gate_proj(y)) * mlp.up_proj(y))
        return norm(decoder.norm, x)[None]

    return forward
