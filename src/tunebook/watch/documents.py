"""Losses of the same documents at several validations, and paired tests of two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.records import ValidationRecord

Floats = NDArray[np.float64]
FEWEST = 8
"""Fewer documents give no test: the t quantile of a small alpha is then beyond what can be seen."""
ENOUGH = 200
"""With fewer documents a real rise is often missed, and evidence says so."""


@dataclass(frozen=True, slots=True)
class Rise:
    """How much higher the loss is at one validation than at another, in nats per target token.

    `p` is one-sided: how often as much would be seen if the loss of all such documents were not
    higher. Ratio estimator clustered by document, t with D - 1 degrees of freedom.
    """

    difference: float
    error: float
    p: float
    documents: int

    def interval(self) -> tuple[float, float]:
        """Give the 95 % confidence interval of the difference."""
        from scipy import special

        half = float(special.stdtrit(self.documents - 1, 0.975)) * self.error
        return self.difference - half, self.difference + half


class Documents:
    """What each document came to: `sums` (validation, document), `counts` of target tokens.

    `steps` are those of the validations that have all documents of the last one, finite.
    """

    def __init__(self, validations: Sequence[ValidationRecord]) -> None:
        kept = [v for v in validations if v.per_document]
        asked = [(d.id, d.target_tokens) for d in kept[-1].per_document] if kept else []
        rows = [
            (v.step, [d.loss_sum for d in v.per_document])
            for v in kept
            if [(d.id, d.target_tokens) for d in v.per_document] == asked
        ]
        sums = np.array([row for _, row in rows], dtype=np.float64).reshape(len(rows), len(asked))
        finite = np.array([bool(np.isfinite(row).all()) for row in sums], dtype=bool)
        self.sums: Floats = sums[finite]
        self.steps = [step for (step, _), good in zip(rows, finite, strict=True) if good]
        self.names = [name for name, _ in asked]
        self.counts: Floats = np.array([count for _, count in asked], dtype=np.float64)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def losses(self) -> Floats:
        """Nats per target token at each validation."""
        return np.asarray(self.sums.sum(axis=1) / self.counts.sum())

    def rise(self, later: int, earlier: int) -> Rise:
        """Test whether the loss at one validation is above that at another, by their places."""
        from scipy import special

        from tunebook.statistics.estimate import ratio_error

        change = self.sums[later] - self.sums[earlier]
        difference = float(change.sum() / self.counts.sum())
        error = ratio_error(change, self.counts)
        t = difference / error if error > 0 else np.copysign(np.inf, difference)
        p = float(special.stdtr(len(self) - 1, -t)) if difference else 0.5
        return Rise(difference, error, p, len(self))

    def most_risen(self, later: int, earlier: int, n: int = 5) -> list[dict[str, object]]:
        """Name the documents that add most to a rise, with their losses before and after."""
        change = self.sums[later] - self.sums[earlier]
        return [
            {
                "document": self.names[place],
                "before": float(self.sums[earlier, place] / max(self.counts[place], 1)),
                "after": float(self.sums[later, place] / max(self.counts[place], 1)),
            }
            for place in np.argsort(-change)[:n].tolist()
            if change[place] > 0
        ]
