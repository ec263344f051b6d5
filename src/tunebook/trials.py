"""The nouns of a replay (steps of a run taken again with one change at a time) and of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tunebook.records import Verdict


@dataclass(frozen=True, slots=True)
class Trial:
    """The steps around a spike taken again with one change, or as they were (`name` control).

    `losses` are of the step itself and those after it, `canary` of the weights after each of them.
    `height` is how far the spike stands out, in nats; `removed` tells that the change took it away.
    `new`: the change takes back what was new at the step; a calmer step calms anything.
    """

    name: str
    change: str
    first_step: int
    new: bool
    losses: tuple[float, ...]
    canary: tuple[float, ...]
    height: float
    removed: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """What taking the steps around a spike again came to: its cause by experiment.

    `after_step` is where the repetition began (0: before step 1), `difference` the largest one
    between recorded losses and the control's. `measure` tells what `height` is of: canary where the
    weights were hurt, else the loss of the step's own batch. `rows` are the ids and texts of the
    step's rows, the highest loss first; `left_out` says of each change why it was not tried.
    """

    step: int
    after_step: int
    last_step: int
    difference: float
    measure: Literal["canary", "loss"]
    trials: tuple[Trial, ...]
    left_out: Mapping[str, str]
    rows: Mapping[str, str]
    verdict: Verdict
    seconds: float
    finished: str = ""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One combination of a sweep, over its seeds.

    `values` are the results of `runs`, in their order, None where there is none, `mean` of those
    there are. `interval` is of the mean, `difference` of the mean less the best's, both 95 %;
    `verdict` is on that difference, empty for the best and where nothing can be said.
    """

    point: int
    settings: Mapping[str, object]
    runs: tuple[str, ...]
    states: tuple[str, ...]
    verdicts: tuple[str, ...]
    values: tuple[float | None, ...]
    mean: float | None
    seconds: float
    interval: tuple[float, float] | None = None
    difference: tuple[float, float] | None = None
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What came of a sweep: its combinations, the best first; `best` is the number of that one.

    `importance` says of each setting in a clause how far it goes with the result. `failed` names
    trials that did not reach their end, with the reason.
    """

    name: str
    by: str
    settings: tuple[str, ...]
    points: tuple[SweepPoint, ...]
    importance: Mapping[str, str]
    notes: tuple[str, ...]
    best: int | None
    failed: Mapping[str, str] = field(default_factory=dict)
