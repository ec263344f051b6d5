"""Which files hold a model's weights, and whether their headers can be read.

A header says where each tensor lies, so a file that was cut or garbled is told without reading a
weight, and without torch.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tunebook.errors import ModelError
from tunebook.models.own_files import something_else
from tunebook.models.screen import INDEX, MAX_JSON_BYTES
from tunebook.regular import open_regular, read_regular

# The library takes no longer header either.
_MOST_HEADER_BYTES = 100_000_000
_SHARD = re.compile(r"(?!\.)[^/\\\0]+\.safetensors")


def weight_files(folder: Path) -> Sequence[Path]:
    """Give the files of safetensors by which a model is loaded; an index that is none, itself.

    None are given of an index that names others than its own, or is too large to be one, which is
    refused where the folder is screened.
    """
    whole, index = folder / "model.safetensors", folder / INDEX
    if _is_there(whole) or not _is_there(index):
        return [whole] if _is_there(whole) else []
    try:
        if index.stat().st_size > MAX_JSON_BYTES:
            return []
        names = json.loads(read_regular(index))["weight_map"].values()
        if not all(_SHARD.fullmatch(name) for name in names):
            return []
        named = [folder / name for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [index]  # which is then reported as a file that cannot be read
    # With none of its files, it came with a config.json that is to be planned.
    return named if any(_is_there(file) for file in named) else []


def _is_there(file: Path) -> bool:
    """Tell whether there is something that is no folder, or that may not be asked."""
    try:
        return file.exists() and not file.is_dir()
    except PermissionError:
        return True  # which then cannot be opened, and is reported


def find_damage(folder: Path) -> str | None:
    """Say which file of weights is missing, cut or garbled, or may not be read, and the way out.

    None for a whole set. The library holds the tensors of a header against the size of the file.
    """
    for file in weight_files(folder):
        if (wrong := _not_opened(file)) is not None:
            return wrong
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            return why_not_read(file, error)
    return None


def refuse_damage(folder: Path, model: str) -> None:
    """Raise ModelError where a file of a model's weights is missing, cut or garbled."""
    if (damage := find_damage(folder)) is not None:
        raise ModelError(f"model {model!r}: {damage}")


def why_not_read(file: Path, error: Exception) -> str:
    """Say why the library could not read a file of weights, and the way out."""
    if (wrong := _not_opened(file)) is not None:
        return wrong
    return f"{file} cannot be read ({_reason(file, error)}); copy or fetch it anew"


def _not_opened(file: Path) -> str | None:
    """Say why the system does not open a file; None where it does.

    The library calls every such file one that is not there.
    """
    try:
        with open_regular(file):
            return None
    except (FileNotFoundError, ValueError):  # a name that no system has
        return (
            f"{file} cannot be read (it is not there, and the index names it); copy or fetch it "
            "anew"
        )
    except PermissionError as error:
        mend = shlex.join(["chmod", "a+r", str(file)])
        return (
            f"{file} cannot be read ({error.strerror}); ask whose it is for `{mend}`, or for the "
            "right to enter its folder, or name a copy of your own"
        )
    except OSError as error:
        return f"{file} cannot be read ({error.strerror}); copy or fetch it anew"


def _reason(file: Path, error: Exception) -> str:
    if (instead := something_else(file)) is not None:
        return instead
    size, said = file.stat().st_size, _said_bytes(file)
    if said is not None and size < said:
        return f"it is cut: it has {size:,} bytes, and its header says {said:,}"
    if said is not None and size > said:
        return f"it has {size:,} bytes, {size - said:,} more than its header says"
    return f"it is garbled, or no safetensors: {' '.join(str(error).split())[:200]}"


def _said_bytes(file: Path) -> int | None:
    """Give how long a file is by its header, at least that one; None where it says nothing."""
    with open_regular(file) as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(length) if length <= _MOST_HEADER_BYTES else None
    if header is None:
        return None
    if len(header) < length:
        return 8 + length
    try:
        tensors = [each for name, each in json.loads(header).items() if name != "__metadata__"]
        ends = [each["data_offsets"][1] for each in tensors]
        return 8 + length + max((end for end in ends if isinstance(end, int)), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None
