"""Whether a token store can be what its index says: a seal that anybody can make proves nothing.

A book may be a stranger's, its store with it. What is mapped as records has to be numbers, and
every place in them has to lie in the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES = ("<u2", "<u4")
"""What token ids are stored as."""
COUNTED = ("rows_in", "rows_out", "file_rows", "blank_lines", "cut_rows", "cut_tokens",
           "left_out_rows", "left_out_turns", "shared_rows", "special_rows", "unended_rows",
           "mojibake_rows")  # fmt: skip
"""What is counted of a store's rows, among its facts."""
_BLOCK_ROWS = 1 << 20


def misfit_of_index(folder: Path, index: Mapping[str, Any], record_bytes: tuple[int, int]) -> str:
    """Say why an index cannot be of the files that lie there; empty where it can.

    `record_bytes` are those of one record of `rows.bin` and of `drops.bin`. Raises KeyError,
    TypeError or OSError for what is missing or no such thing.
    """
    tokens, dtype = index["segment_tokens"], index["dtype"]
    if dtype not in DTYPES:
        return f"its token ids are {str(dtype)[:20]!r}, which are no numbers of two or four bytes"
    if not isinstance(tokens, list) or not all(_is_count(n) for n in tokens):
        return "its segments have no lengths"
    width = np.dtype(dtype).itemsize
    segments = {ids_name(number): n * width for number, n in enumerate(tokens)}
    segments |= {target_name(number): (n + 7) // 8 for number, n in enumerate(tokens)}
    records = dict(zip(("rows.bin", "drops.bin"), record_bytes, strict=True))
    if index["files"].keys() != segments.keys() | records.keys():
        return "its files are not those of its segments"
    for name, n_bytes in segments.items():
        if (folder / name).stat().st_size != n_bytes:
            return f"{name} has not the tokens that are told"
    for name, n_bytes in records.items():
        if (folder / name).stat().st_size % n_bytes:
            return f"{name} does not end with a row"
    return "" if _are_facts(index["facts"]) else "its facts are none"


def misfit_of_rows(
    rows: NDArray[Any], drops: NDArray[Any], tokens: list[int], facts: Mapping[str, Any]
) -> str:
    """Say which of the rows lies outside of the files of a store; empty where none does."""
    bounds = np.concatenate([[0], np.cumsum(tokens, dtype=np.int64)])
    n_files = len(facts["labels"])
    for at in range(0, len(rows), _BLOCK_ROWS):
        some = rows[at : at + _BLOCK_ROWS]
        start, length = some["start"], some["length"].astype(np.int64)
        segment = np.searchsorted(bounds, start, side="right")
        inside = (start >= 0) & (length >= 0) & (segment < len(bounds)) | (length == 0)
        end = bounds[np.minimum(segment, len(bounds) - 1)]
        # Of two that are added, neither may be so large that the sum turns negative.
        inside &= (length == 0) | (start <= end - length)
        inside &= (some["n_target"] >= 0) & (some["n_target"] <= length)
        inside &= _in_files(some, n_files)
        if not inside.all():
            return f"row {at + int(np.argmin(inside)) + 1} of it lies outside of its files"
    fits = _in_files(drops, n_files) & (drops["reason"] >= 0)
    if not (fits & (drops["reason"] < len(facts["reasons"]))).all():
        return "a row that was left out is of no file or has no reason"
    return ""


def ids_name(segment: int) -> str:
    """Name the file of a segment's token ids."""
    return f"ids-{segment:05d}.bin"


def target_name(segment: int) -> str:
    """Name the file of a segment's target bits."""
    return f"target-{segment:05d}.bin"


def _in_files(rows: NDArray[Any], n_files: int) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (rows["file"] >= 0) & (rows["file"] < n_files)
    return inside & (rows["row"] >= 0) & (rows["sub"] >= 0)


def _are_facts(facts: Mapping[str, Any]) -> bool:
    labels, by_file = facts["labels"], facts["by_file"]
    return (
        isinstance(facts["made_from"], dict)
        and all(_are_texts(facts[name]) for name in ("labels", "reasons", "idle_filters"))
        and isinstance(by_file, list)
        and all(isinstance(one, bool) for one in by_file)
        and len(by_file) == len(labels)
        and all(_is_count(n) for n in map(facts.__getitem__, COUNTED))
        and all(_is_count(n) for name in ("dropped", "changed") for n in facts[name].values())
    )


def _are_texts(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(one, str) for one in found)


def _is_count(found: object) -> bool:
    return type(found) is int and 0 <= found < 2**62
