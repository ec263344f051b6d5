"""The nouns of a replay: steps of a run taken again with one change at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
