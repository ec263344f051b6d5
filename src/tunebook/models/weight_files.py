"""Which files hold a model's weights, and whether their headers can be read.

A header says where each tensor lies, so a file that was cut or garbled is told without reading a
weight, and without torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tunebook.errors import ModelError
from tunebook.models.own_files import something_else
from tunebook.models.screen import INDEX


def weight_files(folder: Path) -> Sequence[Path]:
    """Give the files of safetensors by which a model is loaded; an index that is none, itself."""
    whole, index = folder / "model.safetensors", folder / INDEX
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else []
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        named = [folder / name for name in sorted(set(names))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [index]  # which is then reported as a file that cannot be read
    # With none of its files, it came with a config.json that is to be planned.
    return named if any(file.exists() for file in named) else []


def find_damage(folder: Path) -> str | None:
    """Say which file of weights is missing, cut or garbled, and the way out; None for a whole set.

    The library holds the tensors of a header against the size of the file.
    """
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            return f"{file} cannot be read ({_reason(file, error)}); copy or fetch it anew"
    return None


def refuse_damage(folder: Path, model: str) -> None:
    """Raise ModelError where a file of a model's weights is missing, cut or garbled."""
    if (damage := find_damage(folder)) is not None:
        raise ModelError(f"model {model!r}: {damage}")


def _reason(file: Path, error: Exception) -> str:
    if not file.exists():
        return "it is not there, and the index names it"
    if (instead := something_else(file)) is not None:
        return instead
    if "Incomplete" in str(error) or "incomplete" in str(error):
        return f"it has {file.stat().st_size:,} bytes and its header says otherwise: it is cut"
    return f"it is garbled, or no safetensors: {' '.join(str(error).split())[:200]}"
