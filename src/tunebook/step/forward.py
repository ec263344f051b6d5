"""From a micro-batch to the loss of each of its target tokens.

Shapes: N tokens of the flat row, M target tokens, D width, V vocabulary, E examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tunebook.data.batches import MicroBatch
from tunebook.models.attention import DOCUMENTS
from tunebook.models.fast_modules import NEEDED, use_fast_modules
from tunebook.models.load import LoadedModel
from tunebook.step.below import Below
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
    models that do something more between the two (soft capping, scaling). `fast`: known modules
    compute in the faster way of `models.fast_modules`. `below`: the layers below the first adapted
    one answer per example, and their answers may be kept. `homes`: where a weight's gradient may be
    added to past autograd, as `Optimization.homes` says. `varlen`: attention may take all documents
    of a row at once with the kernel of a GPU.
    """

    flat: bool
    direct_head: bool
    fast: bool = True
    below: Below | None = None
    homes: Mapping[torch.nn.Parameter, torch.nn.Parameter] = field(default_factory=dict)
    varlen: bool = False


def token_losses(loaded: LoadedModel, scorer: Scorer, batch: MicroBatch) -> TokenLosses:
    """Score the target tokens of a micro-batch under the model's weights as they are."""
    if scorer.fast:
        use_fast_modules(loaded.causal)
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
    inputs = _inputs(loaded, scorer, ids_N, positions_N, lengths)
    targets_M = to_device(np.flatnonzero(target_N), device)
    labels_M = inputs["input_ids"][0].index_select(0, targets_M)
    scales_M = None
    if scales:
        per_token = np.repeat(np.array(scales, dtype=np.float32), lengths)[target_N]
        scales_M = to_device(per_token, device)
    # The token at i is predicted from the hidden state at i - 1 of the same document.
    if scorer.direct_head:
        if scorer.flat:
            inputs[NEEDED] = targets_M - 1
        with _below_kept(loaded, scorer, ids_N, positions_N, lengths):
            hidden_1ND = loaded.causal.base_model(**inputs)[0]
        hidden_MD = hidden_1ND[0].index_select(0, targets_M - 1)
        # Where peft trains some rows of it, its weight has them in it, and it has no bias.
        head = loaded.causal.get_output_embeddings()
        bias = getattr(head, "bias", None)
        home = scorer.homes.get(head.weight)
        return chunked_cross_entropy(hidden_MD, head.weight, bias, labels_M, scales_M, home)
    with _below_kept(loaded, scorer, ids_N, positions_N, lengths):
        logits_1NV = loaded.causal(**inputs).logits
    logits_MV = logits_1NV[0].index_select(0, targets_M - 1).float()
    losses_M = functional.cross_entropy(logits_MV, labels_M, reduction="none")
    weighted_M = losses_M if scales_M is None else losses_M * scales_M
    return weighted_M.sum(), losses_M.detach()


def _inputs(
    loaded: LoadedModel,
    scorer: Scorer,
    ids_N: np.ndarray,
    positions_N: np.ndarray,
    lengths: tuple[int, ...],
) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "input_ids": to_device(ids_N, loaded.device)[None],
        "position_ids": to_device(positions_N, loaded.device)[None],
        "use_cache": False,
    }
    if scorer.flat:
        # Plain numbers: attention loops over them without waiting for the device.
        bounds = inputs["cu_seq_lens_q"] = [0, *np.cumsum(lengths).tolist()]
        if scorer.varlen:
            on_device = to_device(np.array(bounds, dtype=np.int32), loaded.device)
            inputs[DOCUMENTS] = on_device, max(lengths)
    return inputs


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy an array to a device without waiting for it; a CPU's tensor shares its memory."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    # From memory that may be swapped out a copy waits. What is pinned is kept until it was copied.
    return tensor.pin_memory().to(device, non_blocking=True)


def _below_kept(
    loaded: LoadedModel,
    scorer: Scorer,
    ids_N: np.ndarray,
    positions_N: np.ndarray,
    lengths: tuple[int, ...],
) -> AbstractContextManager[None]:
    """Let the model begin at its first adapted layer, where what is below is answered apart."""
    if scorer.below is None:
        return nullcontext()

    def run(one: slice) -> None:
        length = (one.stop - one.start,)
        loaded.causal.base_model(**_inputs(loaded, scorer, ids_N[one], positions_N[one], length))

    return scorer.below.skipped(run, ids_N, lengths)


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
