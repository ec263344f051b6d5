"""Drop rows that say exactly what an earlier row of the source said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunebook.data.examples import content_key
from tunebook.data.filters.chain import Memory
from tunebook.records import Example


class ExactDuplicate(Memory):
    """Keeps the first of identical rows; 8 bytes of hash are remembered per row."""

    width = 1
    why = "exact duplicate"

    def key(self, example: Example) -> Sequence[int]:
        """Hash what a row says."""
        return (content_key(example.messages),)

    def repeats(
        self, keys: NDArray[np.uint64], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.bool_]:
        """Mark every row but the first of each hash."""
        hashes = keys[:, 0] if rows is None else keys[rows, 0]
        found = np.ones(len(hashes), dtype=bool)
        found[np.unique(hashes, return_index=True)[1]] = False
        return found
