"""What a plan is made of, gathered once: the run's recipe, data, model and device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

from tunebook.data.batches import MicroBatch
from tunebook.data.codec import TextCodec
from tunebook.data.prepare import Prepared
from tunebook.plan.devices import Device
from tunebook.plan.probe import Probe
from tunebook.plan.result import Disk, Memory
from tunebook.plan.witness import Witness
from tunebook.recipe.tree import Recipe
from tunebook.step.horizon import Horizon

T = TypeVar("T")


@dataclass(frozen=True)
class Subject:
    """Everything a check may look at; None is what is not there or not known.

    `config` is the model's config.json. `batches` are the micro-batches of the first steps, just
    as the training loop will make them, and `witnesses` the same rows read from their files anew,
    with no part of the pipeline but the reader. `adapted_width` is the largest rank that an update
    of an adapted weight can have. `known` is what checks found out and share.
    """

    recipe: Recipe
    config: Mapping[str, Any]
    device: Device
    precision: str
    codec: TextCodec | None = None
    prepared: Prepared | None = None
    horizon: Horizon | None = None
    batches: tuple[MicroBatch, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    probe: Probe | None = None
    memory: Memory | None = None
    disk: Disk | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    adapted_width: int | None = None
    known: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)


def once(find: Callable[[Subject], T]) -> Callable[[Subject], T]:
    """Let a function of a subject work only the first time; checks ask for the same things."""
    name = f"{find.__module__}.{find.__qualname__}"

    @wraps(find)
    def known(subject: Subject) -> T:
        if name not in subject.known:
            subject.known[name] = find(subject)
        found: T = subject.known[name]
        return found

    return known
