"""The names of devices that a run file may give; plan/devices.py knows more of each."""

from __future__ import annotations

import difflib
import re

KINDS = ("auto", "cpu", "cuda", "mps")
CARDS = (
    "t4",
    "p100",
    "v100",
    "v100-32",
    "a10",
    "a10g",
    "l4",
    "l40s",
    "a6000",
    "a100-40",
    "a100-80",
    "h100",
    "h200",
    "b200",
    "rtx3060",
    "rtx3090",
    "rtx4090",
    "rtx5090",
)
_SIZE = re.compile(r"^cuda:(\d+(?:\.\d+)?) ?(GB|GiB)$", re.IGNORECASE)


def size_of_device(name: str) -> int | None:
    """Give the bytes of `cuda:15GiB` or `cuda:16GB`, None for any other name."""
    found = _SIZE.match(name)
    if found is None:
        return None
    return int(float(found[1]) * (1 << 30 if found[2].lower() == "gib" else 10**9)) or None


def device_name(text: str) -> str:
    """Give a device's name as it is listed; ValueError with the nearest one for any other."""
    name = text.strip().lower()
    if size_of_device(name) is not None:
        return text.strip()
    known = [*KINDS, *CARDS]
    if name in known:
        return name
    # What begins the same is meant more often than what is spelt alike: a100 is not a10.
    near = [card for card in known if card.startswith(name)] if name else []
    near = near[:1] or difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"must be one of {', '.join(known)} or a size such as cuda:15GiB{hint}")
