"""How far a step moved the weights, measured on a fixed sample of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

_SAMPLED_PER_TENSOR = 1024


class WeightSample:
    """Up to 1,024 evenly spaced weights of every trained tensor, compared before and after."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._parameters = list(parameters.values())
        self._strides = [max(1, p.numel() // _SAMPLED_PER_TENSOR) for p in self._parameters]

    @torch.no_grad()
    def take(self) -> torch.Tensor:
        """Copy the sampled weights as one fp32 vector on their device."""
        return torch.cat(
            [
                p.detach().reshape(-1)[::stride].float()
                for p, stride in zip(self._parameters, self._strides, strict=True)
            ]
        )

    @staticmethod
    def compare(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Give (|change| / |weights|, share of weights whose stored value changed)."""
        change = after - before
        ratio = change.norm() / before.norm().clamp_min(1e-30)
        return torch.stack([ratio, (change != 0).float().mean()])
