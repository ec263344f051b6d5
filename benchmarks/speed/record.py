"""Keep what a speed benchmark measured: one JSON file per case, all of them shown in docs/speed.md.

Scripts of this folder say `from record import Goal, write_result`. Writing again replaces a case.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "speed"
# The names that /proc/cpuinfo has for what a matrix product gains from.
INSTRUCTION_SETS = {
    "avx2": "avx2",
    "avx512": "avx512f",
    "bf16": "avx512_bf16",
    "amx": "amx_bf16",
}


@dataclass(frozen=True, slots=True)
class Goal:
    """One number that was to be reached, beside what was measured.

    `wanted` is a floor, or a ceiling where `at_most`. `low` and `high` are the ends of the 95 %
    interval of `measured`; None where there is none.
    """

    name: str
    wanted: float
    measured: float
    low: float | None = None
    high: float | None = None
    at_most: bool = False
    unit: str = "x"


def write_result(
    case: str,
    *,
    title: str,
    command: str,
    settings: Mapping[str, Any],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    notes: Sequence[str] = (),
    goals: Sequence[Goal] = (),
    versions: Mapping[str, str] | None = None,
    results: Path = RESULTS,
) -> Path:
    """Write one case with the date, the commit, the machine and the versions; return the file.

    `rows` hold text or numbers, None for what is not known; `settings` say what a reader needs to
    run the same again; `notes` are sentences for the page. `versions` adds packages that ran in
    another environment than this one.
    """
    strange = [row for row in rows if len(row) != len(columns)]
    if strange:
        raise ValueError(f"a row of {case} has not {len(columns)} cells: {strange[0]!r}")
    found = {
        "case": case,
        "title": title,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": project_commit(),
        "command": command,
        "machine": machine(),
        "versions": package_versions("torch", "transformers") | dict(versions or {}),
        "settings": dict(settings),
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        "goals": [asdict(goal) for goal in goals],
        "notes": list(notes),
    }
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{case}.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def project_commit() -> str:
    """Name the commit that is measured, with a plus where files differ from it."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks")
        return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> dict[str, Any]:
    """Describe processor, memory and GPU as far as they decide about speed."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    return {
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "instruction_sets": [name for name, flag in INSTRUCTION_SETS.items() if flag in present],
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "gpu": _gpu(),
    }


def computes_in_bf16(device: str) -> bool:
    """Tell whether products in bf16 are done by the device itself; elsewhere they take ages."""
    return device == "cuda" or bool({"bf16", "amx"} & set(machine()["instruction_sets"]))


def _gpu() -> str | None:
    if not Path("/proc/driver/nvidia").exists():
        return None
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def package_versions(*names: str) -> dict[str, str]:
    """Give the versions of Python and of those of these packages that are installed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
