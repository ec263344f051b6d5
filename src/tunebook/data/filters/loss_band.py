"""Keep rows that a model finds neither too easy nor too hard."""

from __future__ import annotations

import math
from typing import Annotated

from tunebook.data.examples import content_key
from tunebook.data.filters.chain import Filter
from tunebook.data.filters.settings import Between
from tunebook.data.scores import read_scores
from tunebook.errors import DataError
from tunebook.records import Example


class LossBand(Filter):
    """Drops rows whose loss, as `tunebook data score` wrote it to `scores`, is outside a band.

    `low` and `high` are in nats per target token. Rows are found by what they say, so this stands
    before filters that rewrite. Source: cleaning by loss in the astronomy notebook's recipe, where
    text below 1.5 is boilerplate that the base knows by heart and text above 2.5 is debris.
    """

    def __init__(
        self,
        scores: str,
        low: Annotated[float, Between(0)] = 1.5,
        high: Annotated[float, Between(0)] = 2.5,
    ) -> None:
        if low >= high:
            raise ValueError(f"low is {low:g}, and must be below high, {high:g}")
        self.low, self.high = low, high
        self._scores = read_scores(scores)

    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it; DataError when it has no score."""
        found = self._scores.find(content_key(example.messages))
        if found is None:
            raise DataError(
                f"{example.id}: the row has no score in {self._scores.path}; score the same file "
                f"with `tunebook data score FILE --out {self._scores.path}`, and put loss_band "
                "before filters that rewrite"
            )
        if math.isnan(found):
            return "no loss"
        if found < self.low:
            return "loss below the band"
        return "loss above the band" if found > self.high else None

    def fingerprint(self) -> str:
        """Hash the scores, since others keep other rows."""
        return self._scores.content_hash
