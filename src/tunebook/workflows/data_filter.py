"""What `tunebook data filter` does: rows through filters, every one of them accounted for.

The source is read twice when a filter looks for repeats: once to remember a few numbers per row,
once to write. Rows are never held.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import orjson
from numpy.typing import NDArray

from tunebook.book.atomic import files_aside
from tunebook.data.detect import Detected, detect
from tunebook.data.examples import Read, Reader
from tunebook.data.filters import NamedFilter, build_filters, chain_of
from tunebook.data.filters.chain import NEVER, Chain, Outcome, Rewrite
from tunebook.data.filters.settings import Settings
from tunebook.data.filters.usable import unusable
from tunebook.data.sources import locate
from tunebook.data.written import rows_of, written_format
from tunebook.errors import DataError, UsageError
from tunebook.recipe.tree import Source
from tunebook.records import Example
from tunebook.workflows.data_show import source_of

_IDS_SHOWN = 3
_UNUSABLE = -1


@dataclass(frozen=True, slots=True)
class Change:
    """What a rewrite made of a row."""

    rewrite: str
    id: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Filtered:
    """Where every row went: `rows_in == sum(dropped) + rows_out`, always.

    `changed` counts the rows each rewrite changed, among those that no filter before it dropped.
    """

    source: str
    format: str
    reason: str
    stage: str
    filters: tuple[Mapping[str, object], ...]
    rows_in: int
    dropped: Mapping[str, int]
    dropped_ids: Mapping[str, tuple[str, ...]]
    changed: Mapping[str, int]
    rows_out: int
    without_effect: tuple[str, ...]
    preview: tuple[Change, ...]
    out: str | None
    out_format: str | None
    out_lines: int
    dropped_out: str | None


@dataclass(slots=True)
class _Tally:
    rows_in: int = 0
    rows_out: int = 0
    lines: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    changed: Counter[int] = field(default_factory=Counter)
    at: array[int] = field(default_factory=lambda: array("h"))
    preview: list[Change] = field(default_factory=list)

    def drop(self, example: Example, why: str) -> None:
        self.dropped[why] += 1
        known = self.ids.get(why, ())
        if len(known) < _IDS_SHOWN:
            self.ids[why] = (*known, example.id)


def filter_rows(
    path: str,
    specs: Sequence[Mapping[str, Settings]],
    *,
    out: Path | None = None,
    dropped_out: Path | None = None,
    force: bool = False,
    preview: int = 3,
    data_format: str = "auto",
    columns: Mapping[str, str] | None = None,
    document: str = "auto",
    roles: Mapping[str, str] | None = None,
    stage: str | None = None,
) -> Filtered:
    """Take the rows of a file through filters and write what is kept, and what is dropped.

    Raises RunFileError for a filter, DataError for the file, UsageError for an output that is
    there, StorageError for a full disk; outputs are then not made.
    """
    _refuse_outputs(path, out, dropped_out, force)
    source = source_of(
        path, data_format=data_format, columns=columns, roles=roles, document=document
    )
    filters = build_filters(specs, source)
    detected, reader = open_source(source, stage)
    chain = chain_of(filters)
    keys_of, first_at = _remember(reader, chain) if chain.memories else ([], None)
    at = None if first_at is None else chain.resolve(first_at, keys_of)
    del keys_of
    written = written_format(detected.format, reader.stage)
    tally = _Tally()
    targets = [one for one in (out, dropped_out) if one is not None]
    with files_aside(targets) as files:
        opened = dict(zip(targets, files, strict=True))
        kept, drops = (opened.get(one) if one else None for one in (out, dropped_out))
        for read, outcome, why in _judge(reader, chain, tally, at):
            example = read.example
            _preview(tally, chain, example, outcome, preview)
            if why is not None:
                tally.drop(example, why)
                if drops is not None:
                    row = rows_of(read, example, written)[0]
                    _add(drops, {"id": example.id, "reason": why, **row})
                continue
            assert outcome is not None
            tally.rows_out += 1
            for row in rows_of(read, outcome.example, written):
                if kept is not None:
                    _add(kept, row)
                tally.lines += 1
    if tally.rows_in != sum(tally.dropped.values()) + tally.rows_out:
        raise DataError(
            f"{path}: {tally.rows_in} rows in are not {sum(tally.dropped.values())} dropped and "
            f"{tally.rows_out} kept; please report this"
        )
    places = np.array(tally.at, dtype=np.int16) if at is None else at
    return Filtered(
        source=path,
        format=detected.format,
        reason=detected.reason,
        stage=reader.stage,
        filters=tuple({f.name: dict(f.settings)} for f in filters),
        rows_in=tally.rows_in,
        dropped=dict(tally.dropped.most_common()),
        dropped_ids=tally.ids,
        changed=_changes(filters, tally.changed),
        rows_out=tally.rows_out,
        without_effect=tuple(chain.idle(places, tally.changed)),
        preview=tuple(tally.preview),
        out=None if out is None else str(out),
        out_format=written if out is not None and tally.lines else None,
        out_lines=tally.lines,
        dropped_out=None if dropped_out is None else str(dropped_out),
    )


def _add(stream: IO[bytes], row: Mapping[str, object]) -> None:
    stream.write(orjson.dumps(row) + b"\n")


def open_source(source: Source, stage: str | None) -> tuple[Detected, Reader]:
    """Detect what a source is and open it; the stage is by default cpt for text, else sft."""
    located = locate(source.path)
    detected = detect(located, source)
    stage = stage or ("cpt" if detected.format == "text" else "sft")
    return detected, Reader(located, detected, source, stage)


def _refuse_outputs(path: str, out: Path | None, dropped_out: Path | None, force: bool) -> None:
    given = [one for one in (out, dropped_out) if one is not None]
    if len(given) == 2 and given[0].absolute() == given[1].absolute():
        raise UsageError(f"--out and --dropped are both {out}; give them names of their own")
    for one in given:
        if one.exists() and Path(path).exists() and one.samefile(path):
            raise UsageError(f"{one} is the file that is read; write to another one")
        if one.is_dir():
            raise UsageError(f"{one} is a folder; name a file in it, such as {one}/kept.jsonl")
        if one.exists() and not force:
            raise UsageError(f"{one} is there already; --force writes over it")
        if not one.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {one.parent} to write {one.name} into; make it")


def _remember(reader: Reader, chain: Chain) -> tuple[list[NDArray[np.uint64]], NDArray[np.int16]]:
    """Read once for what each memory remembers of each usable row, and where rows drop before."""
    at = array("h")
    keys = [array("Q") for _ in chain.memories]
    widths = [chain.memory(place).width for place in chain.memories]
    for read in reader.examples():
        if unusable(read.example) is not None:
            continue
        outcome = chain.run(read.example)
        at.append(outcome.dropped_at)
        for m, (known, width) in enumerate(zip(keys, widths, strict=True)):
            known.extend(outcome.keys[m] if m < len(outcome.keys) else [0] * width)
    found = [
        np.frombuffer(known, dtype=np.uint64).reshape(-1, width) if known else _no_keys(width)
        for known, width in zip(keys, widths, strict=True)
    ]
    return found, np.array(at, dtype=np.int16)


def _no_keys(width: int) -> NDArray[np.uint64]:
    return np.zeros((0, width), dtype=np.uint64)


def _judge(
    reader: Reader, chain: Chain, tally: _Tally, at: NDArray[np.int16] | None
) -> Iterator[tuple[Read, Outcome | None, str | None]]:
    """Yield every row as read, what the chain made of it, and why it is dropped if it is."""
    number = -1
    for read in reader.examples():
        tally.rows_in += 1
        if why := unusable(read.example):
            yield read, None, why
            continue
        number += 1
        outcome = chain.run(read.example)
        place = outcome.dropped_at if at is None else int(at[number])
        if at is None:
            tally.at.append(place)
        tally.changed.update(c for c in outcome.changed if c < place)
        if place == NEVER:
            # A rewrite may have left nothing to learn.
            yield read, outcome, unusable(outcome.example)
        elif place == outcome.dropped_at:
            yield read, outcome, outcome.reason
        else:
            yield read, outcome, chain.memory(place).why


def _preview(
    tally: _Tally, chain: Chain, example: Example, outcome: Outcome | None, n_shown: int
) -> None:
    """Keep the first rows that each rewrite changed, each rewrite by itself."""
    if outcome is None or not outcome.changed:
        return
    now = example
    for place in outcome.changed:
        step = chain.steps[place]
        assert isinstance(step, Rewrite)
        after = step.rewrite(now)
        name = _called(chain.names, place)
        if sum(change.rewrite == name for change in tally.preview) < n_shown:
            tally.preview.append(Change(name, example.id, _said(now), _said(after)))
        now = after


def _called(names: Sequence[str], place: int) -> str:
    """Name a filter, with its number where the chain has several of that name."""
    same = [i for i, name in enumerate(names) if name == names[place]]
    return names[place] if len(same) == 1 else f"{names[place]} ({same.index(place) + 1})"


def _said(example: Example) -> str:
    return "\n".join(
        m.content if m.role == "text" else f"{m.role}: {m.content}" for m in example.messages
    )


def _changes(filters: Sequence[NamedFilter], changed: Counter[int]) -> dict[str, int]:
    names = [f.name for f in filters]
    return {
        _called(names, place): changed[place]
        for place, one in enumerate(filters)
        if isinstance(one.judge, Rewrite)
    }
