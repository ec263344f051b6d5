"""What each rank of a team computes of a step or an evaluation, and putting the answers together.

Micro-batches are dealt out in turn, so that any number of them can be shared by any number of
ranks, and what is computed does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tunebook.data.batches import MicroBatch
from tunebook.models.load import LoadedModel
from tunebook.step.forward import Scorer
from tunebook.step.team import Team

_SILENT_TOKENS = 2


def shared_out(loaded: LoadedModel, batches: Sequence[MicroBatch], team: Team) -> list[MicroBatch]:
    """Give this rank's batches.

    Where the weights are spread over the ranks, all must run the model equally often: a rank that
    has one less runs a few tokens without a target, which add nothing.
    """
    mine = team.share(batches)
    if loaded.root is not None:
        rounds = -(-len(batches) // team.size)
        mine += [_silent(batches[0])] * (rounds - len(mine))
    return mine


def _silent(batch: MicroBatch) -> MicroBatch:
    n = min(_SILENT_TOKENS, batch.lengths[0])
    return MicroBatch(
        ids=batch.ids[:n],
        positions=batch.positions[:n],
        target=batch.target[:n] & False,
        segment=batch.segment[:n],
        lengths=(n,),
        example_ids=(),
        sources=(),
    )


def laid_out(
    loaded: LoadedModel, scorer: Scorer, batches: Sequence[MicroBatch]
) -> list[MicroBatch]:
    """Cut batches into single documents for a sharded model that takes them one at a time.

    It runs as often as there are documents, which would differ from rank to rank.
    """
    if loaded.root is None or scorer.flat:
        return list(batches)
    found = []
    for batch in batches:
        start = 0
        for place, length in enumerate(batch.lengths):
            rows = slice(start, start + length)
            found.append(
                MicroBatch(
                    ids=batch.ids[rows],
                    positions=batch.positions[rows],
                    target=batch.target[rows],
                    segment=batch.segment[rows] - place,
                    lengths=(length,),
                    example_ids=batch.example_ids[place : place + 1],
                    sources=batch.sources[place : place + 1],
                    scales=batch.scales[place : place + 1],
                )
            )
            start += length
    return found


def gather_sums(
    batches: Sequence[MicroBatch], mine: Sequence[torch.Tensor], team: Team
) -> list[torch.Tensor]:
    """Put the loss sums per example of all ranks together, per batch, on every rank.

    `mine` holds those of this rank's batches, in their order.
    """
    if team.alone:
        return list(mine)
    sizes = [len(batch.lengths) for batch in batches]
    parts = list(torch.zeros(sum(sizes), dtype=torch.float64).split(sizes))
    for part, found in zip(team.share(parts), mine, strict=False):
        part.copy_(found)  # a silent batch has nothing to add
    joined = team.add_up(torch.cat(parts))
    return list(joined.split(sizes))
