"""What detectors look at: the records of a run as columns, and what is known of it beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tunebook.records import ExampleLoss, StepRecord, ValidationRecord
from tunebook.watch.documents import Documents
from tunebook.watch.robust import robust_z, row_median, spread, windows_before
from tunebook.watch.surprise import example_z

Floats = NDArray[np.float64]
SCALE_FLOOR = 0.02
"""Nats: the least scale of noise, so that next to no loss has no alarms of next to nothing."""
# A canary that is scored more seldom than this tells too little about the steps between.
_FEWEST_CANARIES = 0.05
_RECENT = 8


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run before its records; None is unknown.

    `resumed_after` are steps after which another process took over, `merge_every` is of method
    relora. `validation_overlap` counts held-out rows that are trained on, of how many.
    `vocabulary_size` is the number of tokens a guess is among, `embedding_parameters` counts the
    trained weights of which a step moves only those of its tokens.
    """

    total_steps: int | None = None
    steps_per_epoch: float | None = None
    warmup_steps: int | None = None
    learning_rate: float | None = None
    max_grad_norm: float | None = None
    method: str | None = None
    merge_every: int | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    vocabulary_size: int | None = None
    resumed_after: tuple[int, ...] = ()
    validation_overlap: tuple[int, int] | None = None
    effective_batch_size: int | None = None
    embedding_parameters: int | None = None


class RunLog:
    """The log of a run; columns are made once, in order of steps, NaN where a value is unknown."""

    def __init__(
        self,
        steps: Sequence[StepRecord],
        validations: Sequence[ValidationRecord] = (),
        facts: RunFacts | None = None,
    ) -> None:
        self.steps = tuple(steps)
        self.validations = tuple(validations)
        self.facts = facts or RunFacts()

    def __len__(self) -> int:
        return len(self.steps)

    def has(self, name: str) -> bool:
        """Tell whether the log holds something at all: a column, or one of the names below."""
        if name == "examples":
            return any(s.examples for s in self.steps)
        if name == "sources":
            return any(s.sources for s in self.steps)
        if name == "validations":
            return any(v.step > 0 for v in self.validations)
        if name == "documents":
            return sum(bool(v.per_document) for v in self.validations) > 1
        if name == "base":
            return any(v.step == 0 for v in self.validations)
        return bool(np.isfinite(getattr(self, name)).any())

    @cached_property
    def step(self) -> NDArray[np.int64]:
        """Numbers of the steps."""
        return np.array([s.step for s in self.steps], dtype=np.int64)

    @cached_property
    def loss(self) -> Floats:
        """Nats per target token of each step's batch, at the weights before its update."""
        return _column(s.loss for s in self.steps)

    @cached_property
    def canary(self) -> Floats:
        """Nats per target token of the canary, at the weights after each step's update."""
        return _column(s.canary_loss for s in self.steps)

    @cached_property
    def learning_rate(self) -> Floats:
        """Learning rate of each step."""
        return _column(s.learning_rate for s in self.steps)

    @cached_property
    def grad_norm(self) -> Floats:
        """Gradient norm before clipping."""
        return _column(s.grad_norm for s in self.steps)

    @cached_property
    def clipped(self) -> NDArray[np.bool_]:
        """Which gradients were scaled down."""
        return np.array([bool(s.clipped) for s in self.steps], dtype=bool)

    @cached_property
    def applied(self) -> NDArray[np.bool_]:
        """Which updates were made."""
        return np.array([s.applied is not False for s in self.steps], dtype=bool)

    @cached_property
    def update_ratio(self) -> Floats:
        """|change of the weights| / |weights|."""
        return _column(s.update_ratio for s in self.steps)

    @cached_property
    def changed_fraction(self) -> Floats:
        """Share of weights whose stored value changed."""
        return _column(s.changed_fraction for s in self.steps)

    @cached_property
    def target_tokens(self) -> Floats:
        """Tokens that carry loss."""
        return _column(s.target_tokens for s in self.steps)

    @cached_property
    def epoch(self) -> Floats:
        """Passes over the data after each step."""
        return _column(s.epoch for s in self.steps)

    @cached_property
    def canary_before(self) -> Floats:
        """The newest canary at the weights that each step's batch was scored with."""
        return np.concatenate(([np.nan], fill_forward(self.canary)[:-1]))[: len(self)]

    @cached_property
    def surprise(self) -> Floats:
        """Loss of the batch less the canary at the same weights.

        A jump means that the data of the step is unusual, whatever the weights have become. Without
        a canary it is the loss less the median of the 8 before it, which tells less.
        """
        if self.has_canary:
            return self.loss - self.canary_before
        return self.loss - row_median(windows_before(self.loss, _RECENT))

    @cached_property
    def has_canary(self) -> bool:
        """Tell whether the canary was scored often enough to tell data from weights."""
        return bool(len(self)) and bool(np.isfinite(self.canary).mean() >= _FEWEST_CANARIES)

    @cached_property
    def batch_z(self) -> Floats:
        """Surprise of each batch in robust SDs of the 48 before it."""
        return robust_z(self.surprise, self.surprise_floor)

    @cached_property
    def surprise_floor(self) -> float:
        """The least scale of surprise: 48 steps may by chance lie closer than the run's do."""
        return max(SCALE_FLOOR, 0.75 * spread(self.surprise))

    @cached_property
    def example_z(self) -> Floats:
        """Surprise of each example, in robust SDs of those of like length; as `examples`."""
        level = self.canary_before
        if not self.has_canary:
            level = row_median(windows_before(self.loss, 16))
        level = np.where(np.isfinite(level), level, self.loss)
        above = self.examples.loss - level[self.examples.place]
        groups = self.examples.source if self.n_sources > 1 else None
        return example_z(above, self.examples.target_tokens, groups)

    @cached_property
    def n_sources(self) -> int:
        """How many sources there are."""
        return len({name for s in self.steps for name in s.sources})

    @cached_property
    def batch_example_z(self) -> Floats:
        """The examples' surprise of each step, added up as independent ones; 0 without them."""
        first = self.examples.first
        if not len(self.examples):
            return np.zeros(len(self))
        sums = np.concatenate(([0.0], np.cumsum(self.example_z)))
        n = np.maximum(np.diff(first), 1)
        return np.asarray((sums[first[1:]] - sums[first[:-1]]) / np.sqrt(n))

    @cached_property
    def warmup_end(self) -> int:
        """The place of the last step of the warm-up; 0 where the learning rate begins high."""
        # Updates left out at the start are logged with a rate of 0 by others.
        rates = np.where(self.learning_rate > 0, self.learning_rate, np.nan)
        known = np.flatnonzero(np.isfinite(rates))
        if len(known):
            rates[: known[0]] = 0.0
            rates[: known[0]] = np.linspace(0, rates[known[0]], known[0], endpoint=False)
        falls = np.flatnonzero(~(np.diff(rates) > 0))
        seen = int(falls[0]) if len(falls) else max(len(rates) - 1, 0)
        if self.facts.warmup_steps is None:
            return seen
        return int(np.searchsorted(self.step, self.facts.warmup_steps, side="right") - 1)

    @cached_property
    def examples(self) -> Examples:
        """Every example of every step."""
        return Examples(self.steps)

    @cached_property
    def documents(self) -> Documents:
        """Losses of held-out documents at every validation; none where they were not kept."""
        return Documents(self.validations)


class Examples:
    """The examples of all steps as flat columns; `first[i] : first[i + 1]` are those of step i."""

    def __init__(self, steps: Sequence[StepRecord]) -> None:
        flat: list[ExampleLoss] = [e for s in steps for e in s.examples]
        counts = np.fromiter((len(s.examples) for s in steps), dtype=np.int64, count=len(steps))
        self.first = np.concatenate(([0], np.cumsum(counts)))
        self.place = np.repeat(np.arange(len(steps)), counts)
        sums = np.array([e.loss_sum for e in flat], dtype=np.float64)
        self.target_tokens = np.array([e.target_tokens for e in flat], dtype=np.float64)
        self.loss = sums / np.maximum(self.target_tokens, 1)
        self._flat = flat

    def __len__(self) -> int:
        return len(self._flat)

    def id_at(self, index: int) -> str:
        """Give the id of an example by its place in the columns."""
        return self._flat[index].id

    @cached_property
    def source(self) -> NDArray[np.int64]:
        """A number for the source of each example, the part of its id before `#`."""
        codes: dict[str, int] = {}
        found = [codes.setdefault(e.id.partition("#")[0], len(codes)) for e in self._flat]
        return np.array(found, dtype=np.int64)

    @cached_property
    def code(self) -> NDArray[np.int64]:
        """A number for each id, the same for the same id (its hash of 64 bits)."""
        return np.array([hash(e.id) for e in self._flat], dtype=np.int64)


def fill_forward(values: Floats) -> Floats:
    """Put in place of each NaN the last number before it."""
    known = np.where(np.isfinite(values), np.arange(len(values)), -1)
    last = np.maximum.accumulate(known) if len(values) else known
    return np.where(last >= 0, values[last], np.nan)


def _column(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
