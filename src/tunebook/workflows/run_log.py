"""The log of a run in the book, as detectors look at it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tunebook.book.data_account import read_data
from tunebook.book.events import Events, read_events
from tunebook.book.places import RunFolder
from tunebook.book.run_file import read_config
from tunebook.watch.run_log import RunFacts, RunLog


def run_log(run: RunFolder, events: Events | None = None) -> RunLog:
    """Read what a run recorded and what is known of it beside."""
    found = read_events(run) if events is None else events
    return RunLog(found.steps, found.validations, facts_of(run, found))


def facts_of(run: RunFolder, events: Events) -> RunFacts:
    """Collect what is known of a run from its resolved recipe, its data and its events."""
    config, _ = read_config(run)
    train = _mapping(config.get("train"))
    total, rows, batch = (
        events.fact(name) for name in ("steps", "rows_per_epoch", "effective_batch_size")
    )
    counts = _mapping(events.fact("parameters"))
    warmup, fraction = train.get("warmup_steps"), train.get("warmup_fraction")
    if warmup is None and fraction is not None and total is not None:
        warmup = math.ceil(fraction * total)
    relora = config.get("method") == "relora"
    return RunFacts(
        total_steps=total,
        steps_per_epoch=rows / batch if rows and batch else None,
        warmup_steps=warmup,
        learning_rate=train.get("learning_rate"),
        max_grad_norm=train.get("max_grad_norm"),
        method=config.get("method"),
        merge_every=_mapping(config.get("relora")).get("merge_every") if relora else None,
        trainable_parameters=counts.get("trainable"),
        total_parameters=counts.get("total"),
        vocabulary_size=events.fact("vocabulary_size"),
        resumed_after=resumes(events),
        validation_overlap=_overlap(read_data(run)),
        effective_batch_size=batch,
        embedding_parameters=counts.get("looked_up"),
    )


def resumes(events: Events) -> tuple[int, ...]:
    """Give the steps after which a later attempt went on."""
    began = [s.get("step") for s in events.states if s.get("state") == "running"]
    return tuple(step for step in began[1:] if isinstance(step, int) and step > 0)


def _overlap(data: Mapping[str, Any]) -> tuple[int, int] | None:
    found = data.get("validation_overlap")
    return (int(found[0]), int(found[1])) if found else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
