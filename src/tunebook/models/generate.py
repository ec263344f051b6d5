"""Let a model answer a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tunebook.models.attention import own_attention
from tunebook.models.load import LoadedModel

GREEDY = "greedy"


@torch.no_grad()
def generate_greedy(
    loaded: LoadedModel, prompt_ids: Sequence[int], max_new_tokens: int, eos_id: int | None
) -> list[int]:
    """Give the new token ids of the most likely continuation, without the end token.

    The model's own attention is used, because flat attention keeps no key/value cache.
    """
    network, causal = loaded.network, loaded.causal
    context = loaded.context_length or 1 << 30
    max_new_tokens = min(max_new_tokens, context - 1)
    room = context - max_new_tokens
    ids_1T = torch.tensor([list(prompt_ids)[-max(room, 1) :]], device=loaded.device)
    attention = causal.config._attn_implementation
    was_training = network.training
    network.eval()
    causal.set_attn_implementation(own_attention(causal))
    try:
        out_1T = network.generate(
            input_ids=ids_1T,
            attention_mask=torch.ones_like(ids_1T),
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            max_new_tokens=max_new_tokens,
            use_cache=True,
            eos_token_id=eos_id,
            pad_token_id=eos_id,
            temperature=None,
            top_p=None,
            top_k=None,
        )
    finally:
        causal.set_attn_implementation(attention)
        network.train(was_training)
    new: list[int] = out_1T[0, ids_1T.shape[1] :].tolist()
    return new[: new.index(eos_id)] if eos_id in new else new
