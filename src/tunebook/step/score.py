"""The held-out loss: token-weighted, with an interval clustered by document."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch

from tunebook.data.batches import MicroBatch
from tunebook.models.load import LoadedModel
from tunebook.records import DOCUMENTS_KEPT, ExampleLoss, ValidationRecord
from tunebook.statistics.estimate import clustered_interval
from tunebook.step.forward import Scorer, sum_per_example, targets_per_example, token_losses
from tunebook.step.share import gather_sums, laid_out, shared_out
from tunebook.step.team import ALONE, Team


@dataclass(frozen=True, slots=True)
class ScoredExample:
    """The summed loss of one held-out example, in nats."""

    id: str
    source: str
    loss_sum: float
    target_tokens: int


@torch.no_grad()
def score_examples(
    loaded: LoadedModel, scorer: Scorer, batches: Iterable[MicroBatch], team: Team = ALONE
) -> list[ScoredExample]:
    """Score every example of the batches without dropout; the model's mode is put back.

    The ranks of a team share the work, and each has all of the answer.
    """
    was_training = loaded.network.training
    loaded.network.eval()
    batches = laid_out(loaded, scorer, list(batches))
    try:
        sums = [
            sum_per_example(batch, token_losses(loaded, scorer, batch).losses_M)
            for batch in shared_out(loaded, batches, team)
        ]
    finally:
        loaded.network.train(was_training)
    return [
        ScoredExample(*line)
        for batch, found in zip(batches, gather_sums(batches, sums, team), strict=True)
        for line in zip(
            batch.example_ids,
            batch.sources,
            found.tolist(),
            targets_per_example(batch),
            strict=True,
        )
    ]


def mean_loss(scored: Sequence[ScoredExample]) -> float:
    """Give the loss per target token over examples."""
    return math.fsum(s.loss_sum for s in scored) / sum(s.target_tokens for s in scored)


def validation_record(
    scored: Sequence[ScoredExample],
    *,
    step: int,
    documents: Mapping[str, str],
    scored_bytes: int,
    examples_hash: str,
    started: float,
) -> ValidationRecord:
    """Sum scores up; `documents` maps example id to document, `started` is `time.monotonic()`."""
    by_source: dict[str, list[ScoredExample]] = {}
    for line in scored:
        by_source.setdefault(line.source, []).append(line)
    clusters: dict[str, tuple[float, int]] = {}
    for line in scored:
        total, count = clusters.get(documents[line.id], (0.0, 0))
        clusters[documents[line.id]] = (total + line.loss_sum, count + line.target_tokens)
    return ValidationRecord(
        step=step,
        loss=mean_loss(scored),
        loss_sum=math.fsum(line.loss_sum for line in scored),
        target_tokens=sum(line.target_tokens for line in scored),
        examples=len(scored),
        documents=len(clusters),
        scored_bytes=scored_bytes,
        examples_hash=examples_hash,
        interval=clustered_interval(list(clusters.values())),
        per_source={name: mean_loss(lines) for name, lines in by_source.items()},
        seconds=time.monotonic() - started,
        per_source_target_tokens={
            name: sum(line.target_tokens for line in lines) for name, lines in by_source.items()
        },
        per_document=tuple(ExampleLoss(name, *clusters[name]) for name in _kept(clusters)),
    )


def _kept(documents: Iterable[str]) -> list[str]:
    """Choose documents by hash: the same ones at every validation, whatever their order."""
    names = sorted(documents)
    if len(names) <= DOCUMENTS_KEPT:
        return names
    return sorted(names, key=lambda name: blake2b(name.encode()).digest())[:DOCUMENTS_KEPT]
