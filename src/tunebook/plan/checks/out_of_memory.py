"""out-of-memory: a run that needs more than its device has dies at its longest batch."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.subject import Subject
from tunebook.records import Finding
from tunebook.units import format_bytes


def check(subject: Subject) -> Iterator[Finding]:
    """Hold the largest peak, with what tensors do not show, against the device's memory."""
    memory = subject.memory
    if memory is None or memory.device_bytes is None:
        return
    if memory.resident_bytes <= memory.device_bytes:
        return
    fitting = memory.longest_batch.get("fitting_micro_batch_size")
    size = subject.horizon.micro_batch_size if subject.horizon is not None else None
    yield Finding(
        "out-of-memory",
        "refuse",
        f"the longest batch needs {format_bytes(memory.longest_batch_bytes)} (one as it is on "
        f"average {format_bytes(memory.train_peak_bytes)}), with the rest of the process "
        f"{format_bytes(memory.resident_bytes)}, and {subject.device.name} has "
        f"{format_bytes(memory.device_bytes)}",
        {
            "resident_bytes": memory.resident_bytes,
            "device_bytes": memory.device_bytes,
            "longest_batch_bytes": memory.longest_batch_bytes,
            "train_peak_bytes": memory.train_peak_bytes,
            "evaluation_peak_bytes": memory.evaluation_peak_bytes,
            "generation_peak_bytes": memory.generation_peak_bytes,
            "micro_batch_size": size,
            "fitting_micro_batch_size": fitting,
            "longest_batch": dict(memory.longest_batch),
        },
        _way_out(subject, fitting),
    )


def _way_out(subject: Subject, fitting: int | None) -> str:
    ways = []
    if fitting:
        ways.append(f"train.micro_batch_size: {fitting} fits")
    if not subject.recipe.train.gradient_checkpointing:
        ways.append("train.gradient_checkpointing: true")
    if subject.recipe.lora.cache_activations == "memory":
        ways.append("lora.cache_activations: disk, or false")
    if subject.recipe.method == "full":
        ways.append("method: lora")
    ways.append(f"max_seq_len below {subject.recipe.max_seq_len}")
    ways.append("a device with more memory, or more `devices` with method full")
    return "; or ".join(ways)
