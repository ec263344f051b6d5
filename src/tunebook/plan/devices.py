"""The devices a run can be planned for, with facts from their makers' data sheets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tunebook.errors import UsageError
from tunebook.recipe.device_names import device_name, size_of_device

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Device:
    """A device, here or to be rented. Memory in bytes; None is not known.

    `bf16` and `fp16` say that it computes in them natively. `tflops` is the dense matrix product
    peak of the data sheet by precision (fp32, tf32, fp16, bf16), in 10^12 operations per second.
    `present` says that it is in this machine. Memory is that of one device, `count` how many.
    """

    name: str
    kind: str
    total_bytes: int | None
    free_bytes: int | None
    bf16: bool
    fp16: bool
    tflops: Mapping[str, float]
    present: bool
    count: int = 1


@dataclass(frozen=True, slots=True)
class _Card:
    """`shown_mib` is the memory as the driver shows it: less than on the box where ECC takes some.

    `title` finds the card in what the driver calls it. Peaks with sums kept in fp32, no sparsity.
    """

    title: str
    shown_mib: int
    fp32: float
    tf32: float | None
    fp16: float
    bf16: float | None

    def tflops(self) -> dict[str, float]:
        every = {"fp32": self.fp32, "tf32": self.tf32, "fp16": self.fp16, "bf16": self.bf16}
        return {name: peak for name, peak in every.items() if peak is not None}


_CARDS: dict[str, _Card] = {
    "t4": _Card(r"\bT4\b", 15360, 8.1, None, 65, None),
    "p100": _Card(r"\bP100\b", 16276, 9.3, None, 18.7, None),
    "v100": _Card(r"\bV100\w*-.*16GB", 16160, 15.7, None, 125, None),
    "v100-32": _Card(r"\bV100\w*-.*32GB", 32510, 15.7, None, 125, None),
    "a10": _Card(r"\bA10\b", 23028, 31.2, 62.5, 125, 125),
    "a10g": _Card(r"\bA10G\b", 23028, 31.5, 35, 70, 70),
    "l4": _Card(r"\bL4\b", 23034, 30.3, 60, 121, 121),
    "l40s": _Card(r"\bL40S\b", 46068, 91.6, 183, 362, 362),
    "a6000": _Card(r"\bRTX A6000\b", 49140, 38.7, 77.4, 154.8, 154.8),
    "a100-40": _Card(r"\bA100\b.*40GB", 40960, 19.5, 156, 312, 312),
    "a100-80": _Card(r"\bA100\b.*80GB", 81920, 19.5, 156, 312, 312),
    "h100": _Card(r"\bH100\b", 81559, 67, 494, 989, 989),
    "h200": _Card(r"\bH200\b", 143771, 67, 494, 989, 989),
    "b200": _Card(r"\bB200\b", 183359, 80, 1125, 2250, 2250),
    "rtx3060": _Card(r"\bRTX 3060\b", 12288, 12.7, 12.7, 25.4, 25.4),
    "rtx3090": _Card(r"\bRTX 3090\b", 24576, 35.6, 35.6, 71, 71),
    "rtx4090": _Card(r"\bRTX 4090\b", 24564, 82.6, 82.6, 165.2, 165.2),
    "rtx5090": _Card(r"\bRTX 5090\b", 32607, 104.8, 104.8, 209.5, 209.5),
}


def parse_device(text: str, count: int = 1) -> Device:
    """Tell what is known of a device, which need not be in this machine.

    `auto`, `cpu`, `cuda` and `mps` are this machine's, with what is free now. Raises UsageError for
    a name that is not known or a machine that has no such device.
    """
    try:
        name = device_name(text)
    except ValueError as error:
        raise UsageError(f"device {text!r} {error}") from None
    size = size_of_device(name)
    if size is not None:
        # Of a size alone nothing is known but that most cards of today compute in bf16.
        return Device(name, "cuda", size, None, True, True, {}, False, count)
    if name in _CARDS:
        card = _CARDS[name]
        here = _cuda_here()
        if here is not None and _card_named(here.name) == name:
            return replace(here, name=name, count=count)
        total = card.shown_mib * _MIB
        has_bf16 = card.bf16 is not None
        return Device(name, "cuda", total, None, has_bf16, True, card.tflops(), False, count)
    return replace(_here(name), count=count)


def planned_precision(wanted: str, device: Device) -> str:
    """Turn `auto` into what a run would train in: bf16 on CUDA that has it, else fp32."""
    if wanted != "auto":
        return wanted
    return "bf16" if device.kind == "cuda" and device.bf16 else "fp32"


def _here(name: str) -> Device:
    if name in ("auto", "cuda"):
        found = _cuda_here()
        if found is not None:
            return found
    if name in ("auto", "mps") and _has_mps():
        total, free = memory_here()
        return Device("mps", "mps", total, free, True, True, {}, True)
    if name in ("cuda", "mps"):
        raise UsageError(
            f"device {name!r} is not in this machine; name the card that you mean, such as t4 or "
            "a100-80, or its size, as in cuda:15GiB"
        )
    total, free = memory_here()
    return Device("cpu", "cpu", total, free, True, False, {}, True)


def _cuda_here() -> Device | None:
    # Asked for only here: torch needs seconds, and most plans name a card.
    import torch

    if not torch.cuda.is_available():
        return None
    facts = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    known = _card_named(facts.name)
    tflops = _CARDS[known].tflops() if known else {}
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Device(facts.name, "cuda", total, free, bf16, True, tflops, True)


def _card_named(driver_name: str) -> str | None:
    if "MIG" in driver_name:  # a slice of a card has a slice of its peak
        return None
    return next((n for n, card in _CARDS.items() if re.search(card.title, driver_name)), None)


def _has_mps() -> bool:
    import torch

    return bool(torch.backends.mps.is_available())


def memory_here(
    proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")
) -> tuple[int, int]:
    """Give the (total, free) memory of this machine, or of the container that it is seen through.

    A container's limit is the truth: a process above it is killed, however much the machine has.
    """
    import psutil

    machine = psutil.virtual_memory()
    total, free = int(machine.total), int(machine.available)
    for limit, used in _group_limits(proc, groups):
        if limit < machine.total:
            total, free = min(total, limit), min(free, max(limit - used, 0))
    return total, free


def _group_limits(proc: Path, groups: Path) -> list[tuple[int, int]]:
    """Give (limit, use) of every control group around this process; what is cached is not used."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        second = controllers == ""
        root = groups if second else groups / "memory"
        names = (
            ("memory.max", "memory.current")
            if second
            else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        cached = "inactive_file" if second else "total_inactive_file"
        # Inside a container its own group is the root of what is mounted, whatever its path says.
        inside = root / path.lstrip("/")
        folders = [inside, *inside.parents] if inside.is_dir() else [root]
        for folder in folders:
            if not folder.is_relative_to(root):
                break
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None:
                found.append((limit, max(used - _statistic(folder / "memory.stat", cached), 0)))
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # `max` is no limit
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
