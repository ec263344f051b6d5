"""unsupported-precision: bf16 on a device without it is emulated, many times slower, or fails."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.subject import Subject
from tunebook.records import Finding


def check(subject: Subject) -> Iterator[Finding]:
    """Compare the run's precision with what the device computes in natively."""
    device = subject.device
    native = {"bf16": device.bf16, "fp16": device.fp16}
    if native.get(subject.precision, True):
        return
    yield Finding(
        "unsupported-precision",
        "refuse",
        f"precision {subject.precision}: {device.name} does not compute in it natively",
        {"precision": subject.precision, "device": device.name, "bf16": device.bf16},
        "say precision: fp32 (or auto, which is fp32 there), or plan for a device with "
        f"{subject.precision}",
    )
