"""slow-precision: a processor without instructions for bf16 emulates it, many times slower."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.plan.ceiling import matrix_product_flops
from tunebook.plan.subject import Subject, once
from tunebook.records import Finding

_SECONDS = 0.05
# A shorter run gains nothing worth a word.
_LEAST_SECONDS = 60.0
# A machine that does something else is noise of as much.
_FASTER = 1.3


def in_half_on_cpu(subject: Subject) -> bool | None:
    """Tell whether a run is to compute in 16 bits on a CPU that is here; None where it is not."""
    here = subject.device.kind == "cpu" and subject.device.present
    return True if here and subject.precision != "fp32" else None


@once
def _flops(subject: Subject) -> dict[str, float]:
    names = {"fp32", "bf16" if subject.precision == "fp32" else subject.precision}
    return {name: matrix_product_flops(name, seconds=_SECONDS) for name in sorted(names)}


def check(subject: Subject) -> Iterator[Finding]:
    """Multiply matrices in the run's precision and in fp32, for a moment."""
    if not in_half_on_cpu(subject):
        return
    found, name = _flops(subject), subject.precision
    if found[name] >= found["fp32"]:
        return
    yield Finding(
        "slow-precision",
        "warn",
        f"precision {name}: this processor multiplies matrices at {_rate(found[name])} in it and "
        f"at {_rate(found['fp32'])} in fp32, {found['fp32'] / found[name]:.3g} times as fast",
        {"precision": name, "flops": found[name], "fp32_flops": found["fp32"]},
        "say precision: fp32 (or auto, which is fp32 there), unless it is for the memory",
    )


def faster_precision(subject: Subject) -> tuple[str, ...]:
    """Say so where a long run would be faster on this CPU in bf16 than in the fp32 it was given."""
    here = subject.device.kind == "cpu" and subject.device.present
    planned = sum(subject.seconds.get(name, 0.0) for name in ("training", "evaluation"))
    if not here or subject.precision != "fp32" or planned < _LEAST_SECONDS:
        return ()
    found = _flops(subject)
    if found["bf16"] < _FASTER * found["fp32"]:
        return ()
    return (
        f"precision: bf16 may be faster: this processor multiplies matrices at "
        f"{_rate(found['bf16'])} in it and at {_rate(found['fp32'])} in fp32",
    )


def _rate(flops: float) -> str:
    return f"{flops / 1e9:.3g} GFLOP/s"
