"""Keep rows that a model finds neither too easy nor too hard."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Annotated

from tunebook.data.examples import content_key
from tunebook.data.filters.chain import Filter
from tunebook.data.filters.settings import Between
from tunebook.data.scores import read_scores
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Example


class LossBand(Filter):
    """Drops rows whose loss, as `tunebook data score` wrote it to `scores`, is outside a band.

    `low` and `high` are in nats per target token. Rows are found by what they say, so this stands
    before filters that rewrite. Source: cleaning by loss in the astronomy notebook's recipe, where
    text below 1.5 is boilerplate that the base knows by heart and text above 2.5 is debris.

    Those bounds are of one base and one kind of text; a small model finds the same text at 4 or 5.
    For your own, score the file first: `tunebook data score` shows how its losses lie. Take the
    band that leaves out both tails (from the 5th to the 95th percentile, which it proposes when
    the band that was asked for keeps next to nothing or all), then read what is dropped on either
    side: `tunebook data filter ... --dropped dropped.jsonl`.
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
        self._otherwise = ""

    def read_as(self, source: Source) -> None:
        """Be told how rows are read, to say where it is not as they were scored."""
        header = self._scores.header
        read: dict[str, object] = {"document": source.document, "roles": dict(source.roles)}
        if source.format != "auto":
            read["format"] = source.format
        then, now = [], []
        for key, value in read.items():
            if header.get(key, value) != value:
                then.append(f"{key} {_plain(header[key])}")
                now.append(f"{key} {_plain(value)}")
        if then:
            self._otherwise = (
                f"rows were scored with {', '.join(then)}, and the file is read with "
                f"{', '.join(now)}; say the same for both"
            )

    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it; DataError when it has no score."""
        found = self._scores.find(content_key(example.messages))
        if found is None:
            raise DataError(
                f"{example.id}: the row has no score in {self._scores.path}: "
                + (self._otherwise or self._how_to_score())
            )
        if math.isnan(found):
            return "no loss"
        if found < self.low:
            return "loss below the band"
        return "loss above the band" if found > self.high else None

    def _how_to_score(self) -> str:
        out = shlex.quote(str(self._scores.path))
        return (
            f"score this very file with `tunebook data score FILE --out {out}`, and "
            "put loss_band before filters that rewrite"
        )

    def fingerprint(self) -> str:
        """Hash the scores, since others keep other rows."""
        return self._scores.content_hash


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={own}" for key, own in value.items()) or "none"
    return str(value)
