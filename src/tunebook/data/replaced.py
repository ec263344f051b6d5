"""Training rows of which a few are others, to see whether those were the cause of something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunebook.data.order import SourcedExample, TrainSet


@dataclass(frozen=True, slots=True)
class Replaced:
    """The rows of a run, with others in the place of some, or of one example in them.

    `instead` maps a row's index to that of the row whose examples take its place; with `example`
    only the example of that id is replaced.
    """

    data: TrainSet
    instead: Mapping[int, int]
    example: str | None = None

    def row(self, index: int) -> tuple[SourcedExample, ...]:
        """Give the examples of a row."""
        own = self.data.row(index)
        if index not in self.instead:
            return own
        others = self.data.row(self.instead[index])
        if self.example is None:
            return others
        return tuple(others[0] if e.tokens.id == self.example else e for e in own)


def find_others(data: TrainSet, rows: range, behind: int) -> dict[int, int]:
    """Choose for each row the next one of its source, from the index `behind` on, that is not among
    them; each row once, over at most one epoch. A row without any is left out.
    """
    taken = {data.address(index) for index in rows}
    waiting = {index: data.address(index)[0] for index in rows}
    found: dict[int, int] = {}
    for candidate in range(behind, behind + data.rows_per_epoch):
        if not waiting:
            break
        address = data.address(candidate)
        place = next((i for i, source in waiting.items() if source == address[0]), None)
        if place is not None and address not in taken:
            taken.add(address)
            found[place] = candidate
            del waiting[place]
    return found
