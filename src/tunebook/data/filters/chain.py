"""Run filters and rewrites over examples one by one, and what needs all rows at the end.

A row's way through the filters does not depend on its neighbours, so rows are judged anywhere and
in any order; only a memory (a filter that looks for repeats) needs all of them. It takes a key of
every row that reaches it, and is asked once, when all keys are known, in file order. The outcome is
that of running every filter in turn over one row after the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunebook.records import Example

NEVER = 2**15 - 1
"""The place in the chain of what no filter dropped."""


class Filter(ABC):
    """Judges a row by itself."""

    @abstractmethod
    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it."""


class Rewrite(ABC):
    """Changes a row by itself."""

    @abstractmethod
    def rewrite(self, example: Example) -> Example:
        """Give the row as it shall be, the very same object when nothing changes."""


class Memory(ABC):
    """Judges rows by those before them: a fixed number of 64-bit values per row, then all at once.

    `why` is the reason that a dropped row gets.
    """

    width: int
    why: str

    @abstractmethod
    def key(self, example: Example) -> Sequence[int]:
        """Give the `width` values (0 .. 2^64-1) that a row is remembered by."""

    @abstractmethod
    def repeats(
        self, keys: NDArray[np.uint64], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.bool_]:
        """Mark which of `rows` (None: all) to drop; the others do not count.

        Keys are (all rows, width), in file order, and may be a file that is mapped: a copy of all
        of them may not fit into memory.
        """


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the chain made of a row.

    `dropped_at` is the place of the filter that dropped it (NEVER: none), `keys` what each memory
    before that place remembers it by, `changed` the places of the rewrites that changed it.
    """

    example: Example
    reason: str | None
    dropped_at: int
    keys: tuple[Sequence[int], ...]
    changed: tuple[int, ...]


@dataclass(slots=True)
class Chain:
    """The filters, rewrites and memories of a source, in the order of the run file."""

    steps: Sequence[Filter | Rewrite | Memory]
    names: Sequence[str]
    memories: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.memories = tuple(i for i, step in enumerate(self.steps) if isinstance(step, Memory))

    def run(self, example: Example) -> Outcome:
        """Take one row through all steps."""
        keys: list[Sequence[int]] = []
        changed: list[int] = []
        for place, step in enumerate(self.steps):
            if isinstance(step, Rewrite):
                after = step.rewrite(example)
                if after is not example:
                    changed.append(place)
                    example = after
            elif isinstance(step, Memory):
                keys.append(step.key(example))
            elif (reason := step.reason(example)) is not None:
                return Outcome(example, reason, place, tuple(keys), tuple(changed))
        return Outcome(example, None, NEVER, tuple(keys), tuple(changed))

    def resolve(
        self, dropped_at: NDArray[np.int16], keys: Sequence[NDArray[np.uint64]]
    ) -> NDArray[np.int16]:
        """Say where each row is dropped once the memories have spoken.

        `dropped_at` is per row, in file order; `keys[m]` are those of memory m, (rows, width), and
        count only where `dropped_at` is behind it.
        """
        found = dropped_at.copy()
        for place, known in zip(self.memories, keys, strict=True):
            memory, here = self.memory(place), found > place
            if here.all():
                found[memory.repeats(known)] = place
                continue
            reached = np.flatnonzero(here)
            found[reached[memory.repeats(known, reached)]] = place
        return found

    def memory(self, place: int) -> Memory:
        """Give the memory that stands at a place."""
        step = self.steps[place]
        assert isinstance(step, Memory)
        return step

    def idle(self, dropped_at: NDArray[np.int16], changed: Counter[int]) -> list[str]:
        """Name the filters that dropped nothing and the rewrites that changed nothing."""
        return [
            name
            for place, name in enumerate(self.names)
            if not changed[place] and not np.any(dropped_at == place)
        ]
