"""From a micro-batch to the loss of each of its target tokens.

Shapes: N tokens of the flat row, M target tokens, D width, V vocabulary, E examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tunebook.data.batches import MicroBatch
from tunebook.models.load import LoadedModel
from tunebook.step.head import chunked_cross_entropy
from tunebook.step.sharding import with_root


@dataclass(frozen=True, slots=True)
class TokenLosses:
    """`loss_sum` is differentiable; `losses_M` are nats per target token, in order of the row.

    In the sum each loss counts as often as its example's gradient is to, in `losses_M` once.
    """

    loss_sum: torch.Tensor
    losses_M: torch.Tensor


@dataclass(frozen=True, slots=True)
class Scorer:
    """How this model's token losses are computed, as found out by `choose_scorer`.

    `flat`: documents of a row go through the model together. `direct_head`: the loss is taken
    from the decoder's hidden states through the head's weights, without whole logits; False for
    models that do something more between the two (soft capping, scaling).
    """

    flat: bool
    direct_head: bool


def token_losses(loaded: LoadedModel, scorer: Scorer, batch: MicroBatch) -> TokenLosses:
    """Score the target tokens of a micro-batch under the model's weights as they are."""
    return TokenLosses(*with_root(loaded, lambda: _score(loaded, scorer, batch)))


def _score(
    loaded: LoadedModel, scorer: Scorer, batch: MicroBatch
) -> tuple[torch.Tensor, torch.Tensor]:
    if scorer.flat or len(batch.lengths) == 1:
        columns = batch.ids, batch.positions, batch.target
        return _score_row(loaded, scorer, *columns, batch.lengths, batch.scales)
    parts, start = [], 0
    for place, length in enumerate(batch.lengths):
        rows = slice(start, start + length)
        parts.append(
            _score_row(
                loaded,
                scorer,
                batch.ids[rows],
                batch.positions[rows],
                batch.target[rows],
                (length,),
                batch.scales[place : place + 1],
            )
        )
        start += length
    losses = torch.stack([loss_sum for loss_sum, _ in parts])
    return losses.sum(), torch.cat([losses_M for _, losses_M in parts])


def _score_row(
    loaded: LoadedModel,
    scorer: Scorer,
    ids_N: np.ndarray,
    positions_N: np.ndarray,
    target_N: np.ndarray,
    lengths: tuple[int, ...],
    scales: tuple[float, ...],
) -> tuple[torch.Tensor, torch.Tensor]:
    device = loaded.device
    ids_1N = torch.from_numpy(ids_N).to(device)[None]
    targets_M = torch.from_numpy(np.flatnonzero(target_N)).to(device)
    labels_M = ids_1N[0].index_select(0, targets_M)
    scales_M = None
    if scales:
        per_token = np.repeat(np.array(scales, dtype=np.float32), lengths)[target_N]
        scales_M = torch.from_numpy(per_token).to(device)
    inputs: dict[str, Any] = {
        "input_ids": ids_1N,
        "position_ids": torch.from_numpy(positions_N).to(device)[None],
        "use_cache": False,
    }
    if scorer.flat:
        # Plain numbers: attention loops over them without waiting for the device.
        inputs["cu_seq_lens_q"] = [0, *np.cumsum(lengths).tolist()]
    # The token at i is predicted from the hidden state at i - 1 of the same document.
    if scorer.direct_head:
        hidden_1ND = loaded.causal.base_model(**inputs)[0]
        hidden_MD = hidden_1ND[0].index_select(0, targets_M - 1)
        # Where peft trains some rows of it, its weight has them in it, and it has no bias.
        head = loaded.causal.get_output_embeddings()
        bias = getattr(head, "bias", None)
        return chunked_cross_entropy(hidden_MD, head.weight, bias, labels_M, scales_M)
    logits_1NV = loaded.causal(**inputs).logits
    logits_MV = logits_1NV[0].index_select(0, targets_M - 1).float()
    losses_M = functional.cross_entropy(logits_MV, labels_M, reduction="none")
    weighted_M = losses_M if scales_M is None else losses_M * scales_M
    return weighted_M.sum(), losses_M.detach()


def sum_per_example(batch: MicroBatch, losses_M: torch.Tensor) -> torch.Tensor:
    """Add token losses up per example; float64 of shape (E,) on the CPU.

    Moving the losses waits for the device, so callers do it once per step.
    """
    segments_M = torch.from_numpy(batch.segment[batch.target])
    sums_E = torch.zeros(len(batch.lengths), dtype=torch.float64)
    return sums_E.index_add_(0, segments_M, losses_M.detach().double().cpu())


def targets_per_example(batch: MicroBatch) -> list[int]:
    """Count target tokens per example."""
    counts = np.bincount(batch.segment[batch.target], minlength=len(batch.lengths))
    return [int(count) for count in counts]
