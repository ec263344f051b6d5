"""disk-too-small, little-free-space: a run that cannot write its checkpoints trains for nothing."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.subject import Subject
from tunebook.records import Finding
from tunebook.units import format_bytes

# What is left over should hold another checkpoint and what else grows on that volume meanwhile.
_COMFORT = 1.5


def check(subject: Subject) -> Iterator[Finding]:
    """Hold what the run will write against what is free on the volume of its folder."""
    disk = subject.disk
    if disk is None or disk.free_bytes >= _COMFORT * disk.needed_bytes:
        return
    fits = disk.free_bytes >= disk.needed_bytes
    keep = subject.recipe.checkpoint.keep
    fewer = f"checkpoint.keep below {keep}, " if keep > 1 else ""
    kept = ""
    if disk.activation_cache_bytes:
        kept = f", an activation cache of {format_bytes(disk.activation_cache_bytes)}"
        fewer += "lora.cache_activations: false, "
    yield Finding(
        "little-free-space" if fits else "disk-too-small",
        "warn" if fits else "refuse",
        f"the run writes up to {format_bytes(disk.needed_bytes)} ({disk.kept} checkpoints of "
        f"{format_bytes(disk.checkpoint_bytes)} at one time{kept}), and "
        f"{format_bytes(disk.free_bytes)} are free on the volume of its folder"
        f"{': little more' if fits else ''}",
        {
            "needed_bytes": disk.needed_bytes,
            "free_bytes": disk.free_bytes,
            "checkpoint_bytes": disk.checkpoint_bytes,
            "kept": disk.kept,
            "final_bytes": disk.final_bytes,
        },
        f"free space (`tunebook clean`), {fewer}or a book on another volume",
    )
