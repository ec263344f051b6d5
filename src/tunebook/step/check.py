"""Find out, by computing it, which fast paths give this model's own answer."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from tunebook.data.batches import MicroBatch
from tunebook.models.attention import FLAT, own_attention
from tunebook.models.load import LoadedModel
from tunebook.step.forward import Scorer, token_losses

# bf16 keeps about three digits; a wrong path is off by whole nats.
_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.15}


@torch.no_grad()
def choose_scorer(loaded: LoadedModel, vocab_size: int) -> Scorer:
    """Compare flat rows and the direct head with the plain model on two short documents.

    The reference is the model's own logits, one document at a time. A path that differs is not
    used: an architecture that tunebook has never seen is then slower, not wrong.
    """
    was_training = loaded.network.training
    loaded.network.eval()
    try:
        batch = _two_documents(vocab_size)
        dtype = next(loaded.causal.parameters()).dtype
        tolerance = _TOLERANCE.get(dtype, _TOLERANCE[torch.bfloat16])
        if loaded.flat:
            loaded.causal.set_attn_implementation(own_attention(loaded.causal))
        plain = _own_attention(loaded, batch)
        if loaded.flat:
            loaded.causal.set_attn_implementation(FLAT)
        direct = _agrees(loaded, Scorer(flat=False, direct_head=True), batch, plain, tolerance)
        flat = loaded.flat and _agrees(
            loaded, Scorer(flat=True, direct_head=direct), batch, plain, tolerance
        )
        if loaded.flat and not flat:
            loaded.causal.set_attn_implementation(own_attention(loaded.causal))
            direct = _agrees(loaded, Scorer(flat=False, direct_head=True), batch, plain, tolerance)
        return Scorer(flat=flat, direct_head=direct)
    finally:
        loaded.network.train(was_training)


def _two_documents(vocab_size: int) -> MicroBatch:
    lengths = (7, 5)
    total = sum(lengths)
    # Small ids are in every vocabulary; spread out so that documents differ.
    ids = (np.arange(total, dtype=np.int64) * 37 + 11) % min(vocab_size, 251)
    positions = np.concatenate([np.arange(n) for n in lengths])
    return MicroBatch(
        ids=ids,
        positions=positions,
        target=positions > 0,
        segment=np.repeat(np.arange(len(lengths)), lengths),
        lengths=lengths,
        example_ids=("check#1", "check#2"),
        sources=("check", "check"),
    )


def _own_attention(loaded: LoadedModel, batch: MicroBatch) -> torch.Tensor:
    """Score each document by the whole model, as any user of transformers would."""
    losses, start = [], 0
    for length in batch.lengths:
        ids_1T = torch.from_numpy(batch.ids[start : start + length]).to(loaded.device)[None]
        logits_TV = loaded.causal(input_ids=ids_1T, use_cache=False).logits[0, :-1].float()
        losses.append(functional.cross_entropy(logits_TV, ids_1T[0, 1:], reduction="none"))
        start += length
    return torch.cat(losses)


def _agrees(
    loaded: LoadedModel, scorer: Scorer, batch: MicroBatch, plain: torch.Tensor, tolerance: float
) -> bool:
    try:
        found = token_losses(loaded, scorer, batch).losses_M
    except Exception:  # an architecture may refuse the path in any way; then it is not used
        return False
    return bool(torch.allclose(found.float(), plain.float(), atol=tolerance, rtol=0))
