"""The micro-batch that a device has room for: rehearsed, and tried out where the weights are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from tunebook.data.prepare import Prepared
from tunebook.errors import first_line
from tunebook.models.memory import is_out_of_memory
from tunebook.plan.batch_shapes import Sizes, full_rows, lengths_of_run, sizes_of_run
from tunebook.plan.batch_size import (
    MARGIN,
    Chosen,
    SizesFor,
    choose_batch_size,
    largest_fitting,
    plan_memory,
    rows_per_device,
)
from tunebook.plan.memory import ACTIVATION_CACHE, MemoryPlanner, Setting, fits
from tunebook.plan.probe import Probe
from tunebook.recipe.tree import Recipe
from tunebook.records import Finding
from tunebook.step.horizon import divisors, plan_horizon

TryOut = Callable[[Sizes, bool | int], Probe | None]
"""Goes through the longest micro-batch with the real weights, and gradient checkpointing of all
layers, none, or the first so many; None where that is not to be done."""


@dataclass(frozen=True, slots=True)
class Room:
    """A micro-batch with its memory, what trying it out showed, and what is wrong with it."""

    planner: MemoryPlanner
    chosen: Chosen
    probe: Probe | None = None
    faults: tuple[Finding, ...] = ()


def find_room(
    setting: Setting, prepared: Prepared | None, tokens_per_evaluation: int, try_out: TryOut | None
) -> Room:
    """Choose the micro-batch size of a run.

    Where `auto` runs out of memory when it is tried out, the next smaller size is taken.
    """
    sizes_for = _sizes_for(setting.recipe, prepared, tokens_per_evaluation)
    planner, chosen = _rehearsed(setting, sizes_for)
    if try_out is None or prepared is None:
        return Room(planner, chosen)
    batch = rows_per_device(setting.recipe, setting.device.count)
    while fits(chosen.memory):
        size, reason = chosen.micro_batch_size, ""
        try:
            probe = try_out(sizes_for(size), planner.setting.checkpointing)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = first_line(error)
        else:
            confirmed = _confirmed(chosen, probe, planner)
            if fits(confirmed.memory) or isinstance(planner.setting.checkpointing, bool):
                return Room(planner, confirmed, probe)
        if not isinstance(planner.setting.checkpointing, bool):
            # The layers were counted too closely: all of them, before any row is given up.
            planner = MemoryPlanner(replace(planner.setting, checkpointing=True))
            word = "gradient checkpointing: fewer layers were tried out and took more than planned"
            chosen = Chosen(size, plan_memory(batch, planner, sizes_for, size), word)
            continue
        smaller = divisors(batch, at_most=size - 1)
        if setting.recipe.train.micro_batch_size != "auto" or not smaller:
            return Room(planner, chosen, None, (_no_room(setting, size, reason),))
        word = f"micro_batch_size {smaller[-1]}: {size} was tried out and ran out of memory"
        chosen = Chosen(smaller[-1], plan_memory(batch, planner, sizes_for, smaller[-1]), word)
    return Room(planner, chosen)


def _sizes_for(recipe: Recipe, prepared: Prepared | None, tokens_per_evaluation: int) -> SizesFor:
    if prepared is None:
        return cache(lambda size: full_rows(recipe, size, tokens_per_evaluation))
    # Which rows there are does not depend on how many go through the model at once.
    horizon = plan_horizon(recipe, prepared.train)
    lengths = lengths_of_run(prepared, horizon)
    return cache(lambda size: sizes_of_run(prepared, horizon, lengths, size, tokens_per_evaluation))


def _rehearsed(setting: Setting, sizes_for: SizesFor) -> tuple[MemoryPlanner, Chosen]:
    """Choose the batch size, with gradient checkpointing where `auto` finds no room without."""
    wanted = setting.recipe.train.gradient_checkpointing
    planner = MemoryPlanner(replace(setting, checkpointing=wanted is True))
    chosen = _chosen(planner, sizes_for)
    if wanted != "auto" or fits(chosen.memory):
        return planner, chosen
    frugal = MemoryPlanner(replace(setting, checkpointing=True))
    again = _chosen(frugal, sizes_for)
    if not fits(again.memory):
        return planner, chosen
    found, chosen = _with_fewest_layers(frugal, again, sizes_for)
    n, of = found.setting.checkpointing, found.layers_to_checkpoint
    which = "" if n is True else f" of the first {n} of {of} layers"
    words = (f"gradient checkpointing{which}: it would not fit without", again.word)
    return found, replace(chosen, word="; ".join(filter(None, words)))


def _with_fewest_layers(
    frugal: MemoryPlanner, chosen: Chosen, sizes_for: SizesFor
) -> tuple[MemoryPlanner, Chosen]:
    """Checkpoint no more layers than must be: each costs its forward pass once more."""
    setting, best = frugal.setting, (frugal, chosen)
    batch = rows_per_device(setting.recipe, setting.device.count)
    too_few, enough = 0, frugal.layers_to_checkpoint
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        planner = MemoryPlanner(replace(setting, checkpointing=middle))
        memory = plan_memory(batch, planner, sizes_for, chosen.micro_batch_size)
        if fits(memory, MARGIN):
            enough, best = middle, (planner, replace(chosen, memory=memory))
        else:
            too_few = middle
    return best


def _chosen(planner: MemoryPlanner, sizes_for: SizesFor) -> Chosen:
    """Choose the batch size; where the author's does not fit, say which would (0: none)."""
    recipe = planner.setting.recipe
    chosen = choose_batch_size(recipe, planner, sizes_for)
    if fits(chosen.memory):
        return chosen
    batch = rows_per_device(recipe, planner.setting.device.count)
    sizes = divisors(batch, at_most=chosen.micro_batch_size - 1)
    found = largest_fitting(sizes, batch, planner, sizes_for, margin=0.0) if sizes else None
    fitting = {"fitting_micro_batch_size": found.micro_batch_size if found else 0}
    memory = chosen.memory
    memory = replace(memory, longest_batch={**memory.longest_batch, **fitting})
    return replace(chosen, memory=memory)


def _confirmed(chosen: Chosen, probe: Probe | None, planner: MemoryPlanner) -> Chosen:
    """Take the process's peak as it was tried out on a CPU, where the heap's holes are in it."""
    if probe is None or probe.peak_bytes is None or planner.setting.device.kind == "cuda":
        return chosen
    memory = chosen.memory
    # Nothing is kept yet when it is tried out, and rows of one length were met.
    later = planner.copied_bytes + planner.code_bytes + memory.parts.get(ACTIVATION_CACHE, 0)
    resident = probe.peak_bytes + later
    if not probe.whole_step:
        resident = max(resident, memory.resident_bytes)
    # Evaluations come when the heap is that large already.
    return replace(chosen, memory=replace(memory, resident_bytes=resident))


def _no_room(setting: Setting, size: int, reason: str) -> Finding:
    return Finding(
        "out-of-memory",
        "refuse",
        f"the longest micro-batch of {size} rows was tried out on {setting.device.name} and ran "
        "out of memory",
        {"micro_batch_size": size, "error": reason},
        "a smaller train.micro_batch_size or max_seq_len, train.gradient_checkpointing: true, or "
        "nothing else on the device",
    )
