"""Put the segments of a source together: number their rows, let the memories speak, add all up."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tunebook.data.filters.chain import Chain
from tunebook.data.segment import (
    BY_FILE,
    JUDGED_FIELDS,
    MOJIBAKE,
    SHARED,
    SPECIAL,
    UNENDED,
    Job,
    facts_path,
    judged_path,
    keys_path,
    rows_path,
)
from tunebook.data.store import DROP_FIELDS, ROW_FIELDS, mapped, write_index
from tunebook.data.store_shape import COUNTED

_FLAGS = {
    "shared_rows": SHARED,
    "special_rows": SPECIAL,
    "unended_rows": UNENDED,
    "mojibake_rows": MOJIBAKE,
}


def seal_segments(
    job: Job, folder: Path, numbers: Sequence[int], made_from: Mapping[str, object]
) -> None:
    """Turn a folder of segments into a store, in place; it keeps what it was made from."""
    known = [orjson.loads(facts_path(folder, n).read_bytes()) for n in numbers]
    dropped_at = _resolve(job.chain, folder, numbers)
    reasons: dict[str, int] = {}
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    by_file = np.zeros(len(job.located.files), dtype=bool)
    segment_tokens: list[int] = []
    hashes: dict[str, str] = {}
    with _Hashed(folder / "rows.bin") as rows_out, _Hashed(folder / "drops.bin") as drops_out:
        lines = _LineNumbers()
        for place, (number, facts) in enumerate(zip(numbers, known, strict=True)):
            judged = mapped(judged_path(folder, number), JUDGED_FIELDS).copy()
            rows = mapped(rows_path(folder, number), ROW_FIELDS).copy()
            shift = lines.before(facts)
            judged["row"] += shift
            rows["row"] += shift
            rows["start"] += sum(segment_tokens)
            repeated = dropped_at[place] != judged["dropped_at"]
            for at in np.unique(dropped_at[place][repeated]).tolist():
                facts["reasons"].append(job.chain.memory(at).why)
                judged["reason"][repeated & (dropped_at[place] == at)] = len(facts["reasons"])
            kept = judged["reason"] == 0
            rows = rows[np.repeat(kept, judged["n_rows"])]
            rows_out.write(rows)
            drops_out.write(_drops(judged[~kept], facts["reasons"], reasons, dropped))
            by_file[judged["file"][(judged["flags"] & BY_FILE) > 0]] = True
            _count(judged[kept], judged, rows, counts)
            counts["blank_lines"] += facts["blank_lines"]
            segment_tokens.append(facts["n_tokens"])
            hashes |= facts["hashes"]
    hashes |= {"rows.bin": rows_out.sha256, "drops.bin": drops_out.sha256}
    changed: Counter[int] = Counter()
    for facts in known:
        changed.update({int(at): n for at, n in facts["changed"].items()})
    names = job.chain.names
    everywhere = np.concatenate([*dropped_at, np.zeros(0, dtype=np.int16)])
    write_index(
        folder,
        np.dtype(job.dtype),
        segment_tokens,
        hashes,
        {
            "made_from": dict(made_from),
            "labels": [file.label for file in job.located.files],
            "by_file": by_file.tolist(),
            "reasons": list(reasons),
            "dropped": dict(sorted(dropped.items())),
            "changed": {names[at]: n for at, n in sorted(changed.items())},
            "idle_filters": job.chain.idle(everywhere, changed),
            **{name: int(counts[name]) for name in COUNTED},
        },
    )
    for number in numbers:
        for path in (facts_path(folder, number), *folder.glob(f"*-{number:05d}*.part")):
            with suppress(FileNotFoundError):
                path.unlink()


def _count(
    kept: NDArray[Any], judged: NDArray[Any], rows: NDArray[Any], counts: Counter[str]
) -> None:
    counts["rows_in"] += len(judged)
    counts["rows_out"] += len(kept)
    counts["file_rows"] += int((judged["sub"] <= 1).sum())
    counts["cut_rows"] += int((rows["cut"] > 0).sum())
    counts["cut_tokens"] += int(rows["cut"].sum(dtype=np.int64))
    counts["left_out_rows"] += int((rows["left_out"] > 0).sum())
    counts["left_out_turns"] += int(rows["left_out"].sum(dtype=np.int64))
    for name, flag in _FLAGS.items():
        counts[name] += int(((kept["flags"] & flag) > 0).sum())


def _drops(
    judged: NDArray[Any], own: Sequence[str], reasons: dict[str, int], dropped: Counter[str]
) -> NDArray[Any]:
    """Give the rows left out, their reasons numbered as in the whole store."""
    found = np.zeros(len(judged), dtype=DROP_FIELDS)
    for name in ("row", "file", "sub"):
        found[name] = judged[name]
    for code, n in zip(*np.unique(judged["reason"], return_counts=True), strict=True):
        why = own[int(code) - 1]
        dropped[why] += int(n)
        found["reason"][judged["reason"] == code] = reasons.setdefault(why, len(reasons))
    return found


def _resolve(chain: Chain, folder: Path, numbers: Sequence[int]) -> list[NDArray[np.int16]]:
    """Say for every example of every segment at which filter it is dropped in the end."""
    at = [np.array(mapped(judged_path(folder, n), JUDGED_FIELDS)["dropped_at"]) for n in numbers]
    if not chain.memories or not at:
        return at
    keys = []
    for m, place in enumerate(chain.memories):
        # One file that is mapped, not one array that is held.
        path = folder / f"keys-{m}.part"
        with path.open("wb") as stream:
            for number in numbers:
                stream.write(keys_path(folder, number, m).read_bytes())
        found = mapped(path, np.dtype("<u8"))
        keys.append(found.reshape(-1, chain.memory(place).width))
    found_at = chain.resolve(np.concatenate(at), keys)
    for m in range(len(keys)):
        (folder / f"keys-{m}.part").unlink()
    return np.split(found_at, np.cumsum([len(one) for one in at])[:-1])


class _LineNumbers:
    """Counts the lines of a file before each of its segments that does not know."""

    def __init__(self) -> None:
        self._file = -1
        self._n_lines = 0

    def before(self, facts: dict[str, Any]) -> int:
        """Give the lines of its file before a segment, and count its own for the next."""
        if facts["file"] != self._file:
            self._file, self._n_lines = facts["file"], 0
        before = self._n_lines
        self._n_lines += facts["n_lines"]
        return 0 if facts["is_numbered"] else before


class _Hashed:
    """A file that is hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()

    def __enter__(self) -> _Hashed:
        self._stream = self._path.open("wb")
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def write(self, records: NDArray[Any]) -> None:
        data = np.ascontiguousarray(records).data
        self._digest.update(data)
        self._stream.write(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()
