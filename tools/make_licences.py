"""Write docs/licences.md: what tunebook needs, under which licences, as installed here.

    python tools/make_licences.py

Names and licences come from the packages' own metadata; packages whose licence asks that what is
built on them be under it too (the GPL family) may only be in extras.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "licences.md"
_SHARING = re.compile(r"\bA?GPL|General Public", re.IGNORECASE)
_LESSER = re.compile(r"\bLGPL|Lesser General Public", re.IGNORECASE)
_NAME = re.compile(r"^\s*([A-Za-z0-9._-]+)(?:\[([^]]*)\])?")
# Of a processor's or a vendor's own kind, which other machines have none of.
_OF_A_DEVICE = re.compile(r"^(nvidia|cuda|triton)")


def licence_of(name: str) -> str:
    """Give the licence that a package states, in the shortest of its ways to say so."""
    told = metadata(name)
    if expression := told.get("License-Expression"):
        return str(expression)
    classes = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier") or []
               if c.startswith("License")]  # fmt: skip
    if classes and classes != ["OSI Approved"]:
        return ", ".join(dict.fromkeys(classes))
    stated = str(told.get("License") or "").strip().splitlines()
    return stated[0][:60] if stated else "not stated"


def gather(extra: str | None) -> dict[str, str]:
    """Find all that is needed for tunebook, or for one of its extras as well, with licences."""
    found: dict[str, str] = {}
    left = [("tunebook", extra)]
    seen = set()
    while left:
        name, wanted = left.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        for line in requires(name) or []:
            needed, _, marker = line.partition(";")
            if not _applies(marker, wanted):
                continue
            match = _NAME.match(needed)
            assert match is not None, line
            other = re.sub(r"[-_.]+", "-", match[1]).lower()
            if _OF_A_DEVICE.match(other):
                continue
            try:
                found[other] = licence_of(other)
            except PackageNotFoundError:
                continue
            left += [(other, None), *((other, e.strip()) for e in (match[2] or "").split(",") if e)]
    return found


def _applies(marker: str, extra: str | None) -> bool:
    if not marker.strip():
        return True
    from packaging.markers import Marker

    return Marker(marker).evaluate({"extra": extra or ""})


def extras() -> list[str]:
    """Name the extras that users install."""
    stated = metadata("tunebook").get_all("Provides-Extra") or []
    return sorted(set(stated) - {"dev", "peers"})


def write() -> str:
    """Write the page; ValueError where something that everybody needs is under the GPL."""
    core = gather(None)
    bad = [n for n, said in core.items() if _SHARING.search(said) and not _LESSER.search(said)]
    if bad:
        raise ValueError(f"needed without any extra, and under the GPL: {', '.join(bad)}")
    lines = [
        "# Licences",
        "",
        "tunebook itself is under Apache-2.0. These are the packages it stands on, with what their "
        "own metadata",
        "says of their licences; written by `tools/make_licences.py` from one installation on "
        "Linux, without the",
        "packages of a graphics card's vendor. **GPL** marks what asks that programs built on it "
        "be under it too;",
        "such packages are in extras only.",
        "",
        "## Needed by everybody",
        "",
        *_table(core),
    ]
    for extra in extras():
        more = {n: said for n, said in gather(extra).items() if n not in core}
        if more:
            lines += ["", f"## Extra `{extra}`", "", *_table(more)]
    return "\n".join(lines) + "\n"


def _table(found: dict[str, str]) -> list[str]:
    lines = ["| package | licence |", "|---|---|"]
    for name, said in sorted(found.items()):
        mark = " **GPL**" if _SHARING.search(said) and not _LESSER.search(said) else ""
        lines.append(f"| {name} | {' '.join(said.split()).replace('|', '/')}{mark} |")
    return lines


if __name__ == "__main__":
    try:
        PAGE.write_text(write(), encoding="utf-8")
    except ValueError as wrong:
        sys.exit(f"make_licences: {wrong}")
    print(f"written: {PAGE.name}")
