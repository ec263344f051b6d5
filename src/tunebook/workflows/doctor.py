"""Say what this machine offers, in lines to paste into a report."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tunebook import __version__
from tunebook.book.places import find_book
from tunebook.errors import BookError
from tunebook.units import format_bytes, format_count

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "numpy",
    "pydantic",
)
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
DEVICE_TIMEOUT_SECONDS = 120.0

# Asked in a child: importing torch costs seconds and its devices may fail hard.
_ASK_DEVICES = """
import json, torch
found = [{"name": "cpu", "threads": torch.get_num_threads()}]
for i in range(torch.cuda.device_count()):
    p = torch.cuda.get_device_properties(i)
    found.append({"name": f"cuda:{i}", "model": p.name, "memory_bytes": p.total_memory})
if torch.backends.mps.is_available():
    found.append({"name": "mps"})
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Report:
    """What `doctor` found; unknown is None, and `devices_problem` says why devices are unknown."""

    tunebook: str
    python: str
    system: str
    packages: dict[str, str | None]
    devices: list[dict[str, object]] | None
    devices_problem: str | None
    cpu_cores: int | None
    memory_bytes: int | None
    memory_free_bytes: int | None
    disk_path: str
    disk_free_bytes: int
    book: str | None
    cache_bytes: int | None
    offline: str | None


def examine(folder: Path) -> Report:
    """Examine this machine and the book around `folder`, if there is one."""
    import psutil

    memory = psutil.virtual_memory()
    devices, problem = _devices()
    book = _book(folder)
    return Report(
        tunebook=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        packages={name: _version(name) for name in PACKAGES},
        devices=devices,
        devices_problem=problem,
        cpu_cores=os.cpu_count(),
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
        disk_path=str(book or folder.absolute()),
        disk_free_bytes=shutil.disk_usage(book or folder).free,
        book=None if book is None else str(book),
        cache_bytes=None if book is None else _folder_bytes(book / ".tunebook" / "cache"),
        offline=_offline(),
    )


def report_lines(report: Report) -> list[str]:
    """Write a report as aligned plain lines."""
    rows = [
        ("tunebook", report.tunebook),
        ("python", report.python),
        ("system", report.system),
        *((name, version or "not installed") for name, version in report.packages.items()),
    ]
    if report.devices is None:
        rows.append(("devices", f"unknown: {report.devices_problem}"))
    rows += [("device", _device_line(device)) for device in report.devices or ()]
    rows.append(("cores", "unknown" if report.cpu_cores is None else str(report.cpu_cores)))
    if report.memory_bytes is not None and report.memory_free_bytes is not None:
        free, total = format_bytes(report.memory_free_bytes), format_bytes(report.memory_bytes)
        rows.append(("memory", f"{free} free of {total}"))
    rows.append(("disk", f"{format_bytes(report.disk_free_bytes)} free at {report.disk_path}"))
    rows.append(("book", report.book or "none here"))
    if report.cache_bytes is not None:
        rows.append(("cache", format_bytes(report.cache_bytes)))
    rows.append(("network", report.offline or "used for models that are not on this machine"))
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {text}" for name, text in rows]


def _device_line(device: dict[str, object]) -> str:
    line = str(device["name"])
    if "model" in device:
        line += f", {device['model']}"
    if isinstance(device.get("memory_bytes"), int):
        line += f", {format_bytes(int(str(device['memory_bytes'])))}"
    if isinstance(device.get("threads"), int):
        line += f", {format_count(int(str(device['threads'])))} threads"
    return line


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> tuple[list[dict[str, object]] | None, str | None]:
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-c", _ASK_DEVICES],
            capture_output=True,
            text=True,
            timeout=DEVICE_TIMEOUT_SECONDS,
            check=False,
        )
        return json.loads(answer.stdout.splitlines()[-1]), None
    except subprocess.TimeoutExpired:
        return None, f"torch did not answer within {DEVICE_TIMEOUT_SECONDS:.0f} s"
    except (OSError, ValueError, IndexError):
        last = answer.stderr.strip().splitlines() if "answer" in locals() else []
        return None, last[-1] if last else "torch could not be asked"


def _book(folder: Path) -> Path | None:
    try:
        return find_book(folder)
    except BookError:
        return None


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # deleted meanwhile
            continue
    return total


def _offline() -> str | None:
    for name in OFFLINE_VARIABLES:
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"never used: {name} is set"
    return None
