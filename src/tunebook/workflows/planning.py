"""What is known of a run before its first step, put together: the story of every plan.

`tunebook plan` calls it with what it could find, training with what it is about to train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tunebook.data.batches import MicroBatch, collate
from tunebook.data.prepare import Prepared
from tunebook.data.stats import distribution
from tunebook.errors import ModelError, RunFileError
from tunebook.models.load import LoadedModel
from tunebook.models.skeleton import WeightFiles, with_rows_for
from tunebook.models.tokenizer import Codec
from tunebook.plan.batch_shapes import Sizes
from tunebook.plan.batch_size import (
    Chosen,
)
from tunebook.plan.checks import run_checks
from tunebook.plan.checks.slow_precision import faster_precision
from tunebook.plan.clock import (
    Cost,
    count_cost,
    count_work,
    estimate_time,
    mean_context,
    measured_speed,
    stated_speed,
)
from tunebook.plan.devices import Device, planned_precision
from tunebook.plan.disk import plan_disk
from tunebook.plan.memory import MemoryPlanner, Setting
from tunebook.plan.probe import Probe, run_probe
from tunebook.plan.result import Disk, Parameters, Plan, Time
from tunebook.plan.subject import Subject
from tunebook.plan.tokenizer import describe_tokenizer
from tunebook.plan.witness import read_witnesses
from tunebook.recipe.tree import Recipe
from tunebook.records import Finding
from tunebook.step.forward import Scorer
from tunebook.step.horizon import Horizon, batches_of_step, plan_horizon
from tunebook.step.optimization import Optimization
from tunebook.train.loop import canary_interval
from tunebook.workflows.activations import tokens_to_keep
from tunebook.workflows.room import TryOut, find_room
from tunebook.workflows.saving import words_of

VALIDATION_TOKENS_PER_BATCH = 8192
# What the checks look at; a few rows where a step takes many.
_FIRST_STEPS = 4
_FIRST_ROWS = 512


@dataclass(frozen=True)
class Known:
    """What a plan is made of. None is what is not there.

    `config` is of transformers, `weights` what is known of the model's files; `faults` are findings
    that kept the data from being made; `words` are told with the plan.
    """

    recipe: Recipe
    config: Any
    device: Device
    run_folder: Path
    weights: WeightFiles
    codec: Codec | None = None
    prepared: Prepared | None = None
    faults: tuple[Finding, ...] = ()
    words: tuple[str, ...] = ()


def make_plan(known: Known, try_out: TryOut | None = None) -> Plan:
    """Plan a run: counts, memory, batch size, a look at the real model, time, disk and checks.

    Raises ModelError for a config that no model can be built from or rows longer than it reads, and
    RunFileError for a batch larger than the data or that devices cannot share.
    """
    _refuse_rows_beyond_context(known)
    refuse_optimizer(known.recipe, known.device.kind)
    added_ids = known.codec.added_ids if known.codec is not None else ()
    if added_ids:
        known = replace(known, config=with_rows_for(known.config, added_ids))
    recipe, device = known.recipe, known.device
    precision = planned_precision(recipe.precision, device)
    setting = Setting(
        known.config,
        recipe,
        precision,
        device,
        process_bytes=psutil.Process().memory_info().rss,
        added_ids=added_ids,
        kept_tokens=tokens_to_keep(recipe, known.prepared) if known.prepared else 0,
    )
    room = find_room(setting, known.prepared, VALIDATION_TOKENS_PER_BATCH, try_out)
    planner, chosen, probe = room.planner, room.chosen, room.probe
    horizon = None
    if known.prepared is not None:
        horizon = plan_horizon(recipe, known.prepared.train, chosen.micro_batch_size)
    parameters = planner.parameters
    cost = _cost(known, parameters)
    time = _time(known, parameters, horizon, probe, precision, cost)
    disk = _disk(known, precision, parameters, planner, horizon)
    subject = _subject(known, precision, horizon, probe, chosen, time, disk)
    subject = replace(subject, adapted_width=parameters.adapted_width or None)
    checked = run_checks(subject)
    findings = (*known.faults, *room.faults, *checked.findings)
    made = _plan(known, subject, chosen, time, findings, checked.n_passed, planner)
    words = (*made.words, *faster_precision(subject))
    return replace(made, words=words, operations={} if cost is None else cost.coefficients())


def refuse_optimizer(recipe: Recipe, device: str) -> None:
    """Raise RunFileError for an optimizer that is of no use on a kind of device."""
    if recipe.train.optimizer == "adamw_8bit" and device != "cuda":
        raise RunFileError(
            f"train.optimizer adamw_8bit is for CUDA: on {device} each step would take many times "
            "as long; say train.optimizer: adamw"
        )


def _refuse_rows_beyond_context(known: Known) -> None:
    most = getattr(known.config, "max_position_embeddings", None)
    longest = 0 if known.prepared is None else known.prepared.longest
    if most is not None and longest > most:
        raise ModelError(
            f"max_seq_len {known.recipe.max_seq_len}: the longest row has {longest} tokens, and "
            f"{known.recipe.model} reads at most {most}; set max_seq_len: {most}"
        )


def try_longest(
    known: Known, loaded: LoadedModel, scorer: Scorer, optimization: Optimization, sizes: Sizes
) -> Probe | None:
    """Go through the longest micro-batch of the data with the real weights, moving none."""
    if known.prepared is None or not sizes.longest_rows:
        return None
    train = known.prepared.train
    batch = collate([example for row in sizes.longest_rows for example in train.row(row)])
    accumulates = known.recipe.train.effective_batch_size > len(sizes.longest_rows)
    seed = known.recipe.seed
    return run_probe(loaded, scorer, optimization, batch, seed, accumulates=accumulates)


def _cost(known: Known, parameters: Parameters) -> Cost | None:
    if known.prepared is None:
        return None
    config, context = known.config.to_dict(), mean_context(known.prepared)
    return count_cost(parameters, config, known.recipe.method, context)


def _time(
    known: Known,
    parameters: Parameters,
    horizon: Horizon | None,
    probe: Probe | None,
    precision: str,
    cost: Cost | None,
) -> Time:
    if known.prepared is None or horizon is None or cost is None:
        return Time(None, None, "not measured: without rows there is nothing to count")
    work = count_work(known.recipe, horizon, known.prepared, canary_interval(parameters.total))
    if kept := tokens_to_keep(known.recipe, known.prepared):
        work = replace(work, read_tokens=max(0, work.tokens + work.evaluation_tokens - kept))
    if probe is not None:
        return estimate_time(work, cost, measured_speed(probe, cost))
    return estimate_time(work, cost, stated_speed(known.device, precision))


def _disk(
    known: Known,
    precision: str,
    parameters: Parameters,
    planner: MemoryPlanner,
    horizon: Horizon | None,
) -> Disk | None:
    on_disk = known.recipe.lora.cache_activations == "disk"
    try:
        return plan_disk(
            known.run_folder,
            known.recipe,
            precision,
            parameters,
            planner.n_trainable_tensors,
            tokenizer_folder=known.codec.folder if known.codec is not None else None,
            horizon=horizon,
            eight_bit_bytes=planner.eight_bit_bytes,
            kept_bytes=planner.kept_bytes if on_disk else 0,
        )
    except OSError:
        return None


def _subject(
    known: Known,
    precision: str,
    horizon: Horizon | None,
    probe: Probe | None,
    chosen: Chosen,
    time: Time,
    disk: Disk | None,
) -> Subject:
    prepared = known.prepared
    batches: tuple[MicroBatch, ...] = ()
    if prepared is not None and horizon is not None:
        most = max(1, min(_FIRST_STEPS, _FIRST_ROWS // horizon.effective_batch_size))
        steps = range(1, min(horizon.total_steps, most) + 1)
        batches = tuple(b for s in steps for b in batches_of_step(prepared.train, horizon, s))
    seconds: Mapping[str, float] = {}
    if time.seconds is not None and time.evaluation_seconds is not None:
        training = time.seconds - time.evaluation_seconds
        seconds = {
            "training": training,
            "evaluation": time.evaluation_seconds,
            "canary": time.canary_seconds,
        }
    wanted = frozenset(i for batch in batches for i in batch.example_ids)
    return Subject(
        recipe=known.recipe,
        config=known.config.to_dict(),
        device=known.device,
        precision=precision,
        codec=known.codec,
        prepared=prepared,
        horizon=horizon,
        batches=batches,
        witnesses=() if prepared is None else read_witnesses(prepared, known.recipe, wanted),
        probe=probe,
        memory=chosen.memory,
        disk=disk,
        seconds=seconds,
    )


def _plan(
    known: Known,
    subject: Subject,
    chosen: Chosen,
    time: Time,
    findings: Sequence[Finding],
    n_passed: int,
    planner: MemoryPlanner,
) -> Plan:
    recipe, prepared, horizon = known.recipe, known.prepared, subject.horizon
    batch = recipe.train.effective_batch_size
    epochs = horizon.total_rows / horizon.rows_per_epoch if horizon else 0
    probe = subject.probe
    words = [word for word in (chosen.word, *planner.words) if word]
    if recipe.method == "relora" and horizon is not None:
        words.append(_merge_words(recipe, horizon))
    if subject.disk is not None:
        device, size = known.device, subject.disk.checkpoint_bytes
        words += filter(None, [words_of(recipe, device.kind, device.count, size)])
    return Plan(
        model=recipe.model,
        method=recipe.method,
        device=known.device.name,
        precision=subject.precision,
        parameters=planner.parameters,
        memory=chosen.memory,
        micro_batch_size=chosen.micro_batch_size,
        gradient_accumulation_steps=batch // chosen.micro_batch_size // known.device.count,
        effective_batch_size=batch,
        gradient_checkpointing=planner.setting.checkpointing,
        epochs=epochs or None,
        steps=horizon.total_steps if horizon else recipe.train.max_steps,
        tokens=round(epochs * prepared.train.tokens_per_epoch) if prepared else None,
        target_tokens=round(epochs * prepared.train.target_tokens_per_epoch) if prepared else None,
        time=time,
        disk=subject.disk,
        rows=None if prepared is None else _rows(prepared),
        dropped={} if prepared is None else _dropped(prepared),
        lengths=None if prepared is None else _lengths(prepared),
        tokenizer=describe_tokenizer(subject),
        findings=tuple(findings),
        accepted=tuple(recipe.accept),
        n_passed=n_passed,
        words=(*known.words, *words),
        probe={}
        if probe is None
        else {
            "loss": probe.loss,
            "seconds": probe.seconds,
            "tokens": probe.tokens,
            **({} if probe.peak_bytes is None else {"peak_bytes": probe.peak_bytes}),
        },
    )


def _merge_words(recipe: Recipe, horizon: Horizon) -> str:
    every, steps = recipe.relora.merge_every, horizon.total_steps
    n_merges = (steps - 1) // every
    if not n_merges:
        return (
            f"relora.merge_every {every}: nothing is merged within {steps} steps, so this is "
            "method lora with its adapter merged at the end"
        )
    rank = recipe.lora.rank * (n_merges + 1)
    return f"{n_merges} merges, after every {every} steps: the update may reach rank {rank:,}"


def _rows(prepared: Prepared) -> dict[str, int]:
    accounts = prepared.accounts
    return {
        "in": sum(a.rows_in for a in accounts),
        "dropped": sum(sum(a.dropped.values()) for a in accounts),
        "out": sum(a.rows_out for a in accounts),
        "cut": sum(a.cut_rows for a in accounts),
        "an_epoch": prepared.train.rows_per_epoch,
        "held_out": 0 if prepared.validation is None else len(prepared.validation),
    }


def _dropped(prepared: Prepared) -> dict[str, int]:
    found: dict[str, int] = {}
    for account in prepared.accounts:
        for reason, n in account.dropped.items():
            found[reason] = found.get(reason, 0) + n
    return found


def _lengths(prepared: Prepared) -> dict[str, float] | None:
    found = distribution(np.concatenate([s.lengths for s in prepared.train.sources]))
    if found is None:
        return None
    return {
        "n": found.n,
        "mean": found.mean,
        "median": found.median,
        "max": found.max,
        **found.percentiles,
    }
