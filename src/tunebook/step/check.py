"""Find out, by computing it, which fast paths give this model's own answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from tunebook.data.batches import MicroBatch
from tunebook.errors import ModelError, first_line
from tunebook.models.attention import FLAT, own_attention
from tunebook.models.fast_modules import use_own_modules
from tunebook.models.load import LoadedModel
from tunebook.step.below import Below
from tunebook.step.forward import Scorer, token_losses

# bf16 keeps about three digits; a wrong path is off by whole nats.
_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.15}


@torch.no_grad()
def choose_scorer(loaded: LoadedModel, vocab_size: int) -> Scorer:
    """Compare flat rows, the direct head and fast modules with the plain model on two documents.

    The reference is the model's own logits, one document at a time. A path that differs is not
    used: an architecture that tunebook has never seen is then slower, not wrong.
    """
    was_training = loaded.network.training
    loaded.network.eval()
    try:
        batch = _documents((7, 5), vocab_size)
        dtype = next(loaded.causal.parameters()).dtype
        tolerance = _TOLERANCE.get(dtype, _TOLERANCE[torch.bfloat16])
        if loaded.flat:
            loaded.causal.set_attn_implementation(own_attention(loaded.causal))
        plain = _own_attention(loaded, batch)
        fast = _agrees(loaded, Scorer(False, False), batch, plain, tolerance)
        if not fast:
            use_own_modules(loaded.causal)
        if loaded.flat:
            loaded.causal.set_attn_implementation(FLAT)
        one_by_one = Scorer(False, True, fast)
        direct = _agrees(loaded, one_by_one, batch, plain, tolerance)
        together = Scorer(True, direct, fast, varlen=loaded.device.type == "cuda")
        flat = loaded.flat and _agrees(loaded, together, batch, plain, tolerance)
        if loaded.flat and not flat and together.varlen:  # a card may be too old for the kernel
            together = replace(together, varlen=False)
            flat = _agrees(loaded, together, batch, plain, tolerance)
        if flat:
            return together
        if loaded.flat:
            loaded.causal.set_attn_implementation(own_attention(loaded.causal))
            direct = _agrees(loaded, one_by_one, batch, plain, tolerance)
        return Scorer(False, direct, fast)
    finally:
        loaded.network.train(was_training)


@torch.no_grad()
def check_below(loaded: LoadedModel, scorer: Scorer, vocab_size: int) -> None:
    """Hold the path through kept activations against the model's own, bit for bit.

    Raises ModelError where a document by itself gets another loss, also when its answer was kept
    and another document came last: what is above then needs more than the last hidden state.
    """
    assert scorer.below is not None
    documents = [_documents((n,), vocab_size) for n in (17, 12)]
    trial, was_training = Below(loaded.causal, scorer.below.first), loaded.network.training
    trial.keep(29, None)

    def losses(below: Below | None) -> list[torch.Tensor]:
        found = []
        for document in documents:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # an adapter may have dropout
                found.append(token_losses(loaded, replace(scorer, below=below), document).losses_M)
        return found

    try:
        for training in (False, True):
            loaded.network.train(training)
            expected = losses(None)
            for found in (losses(trial), losses(trial)):
                if not all(map(torch.equal, found, expected)):
                    raise ValueError("its losses differ")
    except Exception as error:  # an architecture may refuse the path in any way
        raise ModelError(
            "lora.cache_activations: this model's layers above the first adapted one do not go by "
            f"the last hidden state below alone ({first_line(error)}); say lora.cache_activations: "
            "false"
        ) from None
    finally:
        loaded.network.train(was_training)


def _documents(lengths: tuple[int, ...], vocab_size: int) -> MicroBatch:
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
        example_ids=("check",) * len(lengths),
        sources=("check",) * len(lengths),
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
