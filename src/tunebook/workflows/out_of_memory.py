"""When a micro-batch runs out of memory while training: what is written, and what is tried next."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from tunebook.book.plans import read_plan, write_plan
from tunebook.step.horizon import divisors, shared_size
from tunebook.step.peak import peak_bytes
from tunebook.step.update import StepOutOfMemory

if TYPE_CHECKING:
    from tunebook.workflows.before import Run

_SHOWN_IDS = 8


def take_smaller(run: Run, failed: StepOutOfMemory) -> bool:
    """Go on with the next smaller micro-batch where it is `auto`; False where there is none.

    The plan was wrong, and plan.json says so. The effective batch size stays what it is.
    """
    horizon, train = run.training.horizon, run.recipe.train
    size = horizon.micro_batch_size
    record(run, failed)
    smaller = divisors(horizon.effective_batch_size, at_most=size - 1)
    # Of several processes only this one knows; the others wait for it in the middle of a step.
    if train.micro_batch_size != "auto" or not smaller or not run.team.alone:
        return False
    if run.training.loaded.device.type == "cuda":
        torch.cuda.empty_cache()
    run.micro_batch_size = smaller[-1]
    run.training = replace(
        run.training, horizon=replace(horizon, micro_batch_size=run.micro_batch_size)
    )
    accumulated = horizon.effective_batch_size // run.micro_batch_size
    run.events.write(
        "facts",
        {
            "micro_batch_size": run.micro_batch_size,
            "gradient_accumulation_steps": accumulated,
        },
    )
    run.say(
        f"{_what(run, failed, size)}; the step is taken again with micro_batch_size "
        f"{run.micro_batch_size}, {accumulated} of them per step"
    )
    return True


def way_out(run: Run, failed: StepOutOfMemory) -> str:
    """Say in one sentence why a run pauses and what would let it go on."""
    size = run.training.horizon.micro_batch_size
    smaller = ""
    if size > 1 and run.team.alone:
        smaller = "train.micro_batch_size: auto (it tries smaller ones), "
    elif size > 1:  # a team tries none
        batch = run.training.horizon.effective_batch_size
        smaller = f"train.micro_batch_size: {shared_size(batch, size - 1, run.team.size)}, "
    name = run.run.name
    return (
        f"{_what(run, failed, size)}; free memory and `tunebook resume {name}`, or `tunebook new "
        f"NAME --from {name}` with {smaller}a smaller max_seq_len or "
        "train.gradient_checkpointing: true"
    )


def _what(run: Run, failed: StepOutOfMemory, size: int) -> str:
    more = len(failed.examples) - _SHOWN_IDS
    rows = ", ".join(failed.examples[:_SHOWN_IDS]) + (f" and {more} more" if more > 0 else "")
    device = str(run.training.loaded.device)
    if not run.team.alone:
        device = f"rank {run.team.rank} of {run.team.size} ({device})"
    return (
        f"step {failed.step}: a micro-batch of {size} rows ({failed.tokens:,} tokens: {rows}) ran "
        f"out of memory on {device}"
    )


def record(run: Run, failed: StepOutOfMemory) -> None:
    """Write into plan.json what a rank reached, beside what was planned.

    Of a team any rank does so for itself, for rank 0 may be waiting for it; of two that fail in the
    same moment one may be missing.
    """
    plan = read_plan(run.run)
    memory = plan.get("memory") or {}
    on_cuda = run.training.loaded.device.type == "cuda"
    planned = memory.get("longest_batch_bytes" if on_cuda else "resident_bytes")
    found = {
        "step": failed.step,
        "rank": run.team.rank,
        "micro_batch_size": run.training.horizon.micro_batch_size,
        "tokens": failed.tokens,
        "examples": list(failed.examples),
        "planned_peak_bytes": planned,
        "reached_bytes": peak_bytes(run.training.loaded.device),
        "error": failed.reason,
    }
    write_plan(run.run, {**plan, "out_of_memory": [*plan.get("out_of_memory", []), found]})
