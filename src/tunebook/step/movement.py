"""How far a step moved the weights, measured on a fixed sample of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tunebook.step.sharding import is_sharded, local_part
from tunebook.step.team import ALONE, Team

_SAMPLED_PER_TENSOR = 1024


class WeightSample:
    """Up to 1,024 evenly spaced weights of every trained tensor, compared before and after.

    Of tensors that are spread over a team each rank takes those that it holds.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], team: Team = ALONE) -> None:
        self._parameters = list(parameters.values())
        self._strides = [max(1, p.numel() // _SAMPLED_PER_TENSOR) for p in self._parameters]
        self._rank, self._size = team.rank, team.size
        self._team = team if any(map(is_sharded, self._parameters)) else ALONE

    @torch.no_grad()
    def take(self) -> torch.Tensor:
        """Copy the sampled weights as one fp32 vector on their device."""
        taken = []
        for parameter, stride in zip(self._parameters, self._strides, strict=True):
            part, before = local_part(parameter.detach(), self._rank, self._size)
            taken.append(part[-before % stride :: stride].float())
        return torch.cat(taken)

    def compare(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Give (|change| / |weights|, share of weights whose stored value changed).

        Both tensors are used up: no copy of theirs is made.
        """
        change = after.sub_(before)
        # Squares of weights of 1e30 are beyond fp32, and mps has nothing above it.
        wide = torch.float32 if change.device.type == "mps" else torch.float64
        sums = torch.stack(
            [
                change.count_nonzero().to(wide),
                change.new_tensor(len(change), dtype=wide),
                _square(change, wide),
                _square(before, wide),
            ]
        )
        changed, n, moved, weights = self._team.add_up(sums)
        return torch.stack([(moved / weights.clamp_min(1e-38)).sqrt(), changed / n])


def _square(values: torch.Tensor, wide: torch.dtype) -> torch.Tensor:
    """Sum squares that may be beyond fp32, in place: a wider copy would be twice as large."""
    largest = torch.linalg.vector_norm(values, torch.inf).clamp_min(1e-38)
    norm: torch.Tensor = torch.linalg.vector_norm(values.div_(largest)).to(wide)
    square: torch.Tensor = (norm * largest.to(wide)) ** 2
    return square
