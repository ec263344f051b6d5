"""Turn a piece of a source into a segment of token files: read, filter, render, tokenize, cut.

A segment depends on nothing but its piece and the job, so segments are made in any process, on any
machine, in any order. Its files are written first and its facts last, under their own name at once:
a segment whose facts are there is whole.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tunebook.data.codec import TextCodec
from tunebook.data.detect import Detected
from tunebook.data.examples import Read, Reader, content_key
from tunebook.data.filters import build_filters, chain_of
from tunebook.data.filters.chain import NEVER, Chain
from tunebook.data.filters.usable import unusable
from tunebook.data.fit import NO_TARGET, OVERLONG, Fitted, fit
from tunebook.data.mojibake import looks_like_mojibake
from tunebook.data.pieces import Piece, PieceReader
from tunebook.data.render import Renderer, choose_renderer
from tunebook.data.sources import Located
from tunebook.data.store import ROW_FIELDS
from tunebook.data.store_shape import ids_name, target_name
from tunebook.data.tokenize import Rendered, tokenize
from tunebook.data.window import count_to_leave_out, without_oldest
from tunebook.recipe.tree import Source
from tunebook.records import Example

_CHUNK_ROWS = 1000
# A chunk also ends here: its arrays then stay in the caches of a core.
_CHUNK_CHARACTERS = 256 * 1024

JUDGED_FIELDS = np.dtype(
    [
        ("row", "<i8"),
        ("file", "<i4"),
        ("sub", "<i4"),
        ("n_rows", "<i4"),
        ("reason", "<i4"),
        ("dropped_at", "<i2"),
        ("flags", "<u2"),
    ]
)
"""An example as read: where it stands, how many rows it became, why it was dropped (0: it was not;
else a place in the reasons of its segment, from 1), at which filter, and what was noticed."""

SHARED, SPECIAL, UNENDED, BY_FILE, MOJIBAKE = 1, 2, 4, 8, 16
_FATES = {OVERLONG: "overlong", NO_TARGET: "no target tokens"}
_BEFORE_ALL = -1


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """What decides the tokens of every source of a run."""

    stage: str
    template: str
    train_on: str
    max_seq_len: int
    overlong: str


@dataclass(frozen=True)
class Job:
    """What it takes to turn any piece of a source into a segment; it can be pickled."""

    source: Source
    located: Located
    detected: Detected
    settings: TokenSettings
    codec: TextCodec
    dtype: str

    @cached_property
    def chain(self) -> Chain:
        """The filters of the source."""
        return chain_of(build_filters(self.source.filters, self.source))

    @cached_property
    def renderer(self) -> Renderer:
        """What writes its examples."""
        settings = self.settings
        return choose_renderer(settings.template, self.detected.format, self.codec, settings.stage)

    @cached_property
    def reader(self) -> Reader:
        """What reads its examples."""
        return Reader(self.located, self.detected, self.source, self.settings.stage)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("source", "located", "detected", "settings", "codec", "dtype")
        return {name: self.__dict__[name] for name in kept}


class _Judged:
    """The columns of JUDGED_FIELDS as they grow: a million empty rows take 28 MB."""

    def __init__(self) -> None:
        self.row, self.dropped_at, self.flags = array("q"), array("h"), array("H")
        self.file, self.sub, self.n_rows, self.reason = (array("i") for _ in range(4))

    def __len__(self) -> int:
        return len(self.row)

    def add(self, read: Read, reason: int, dropped_at: int, flags: int) -> None:
        """Write an example down that became no rows yet."""
        self.row.append(read.row)
        self.file.append(read.file)
        self.sub.append(read.sub)
        self.n_rows.append(0)
        self.reason.append(reason)
        self.dropped_at.append(dropped_at)
        self.flags.append(flags)

    def records(self) -> NDArray[Any]:
        """Give all as one array of JUDGED_FIELDS."""
        found = np.zeros(len(self), dtype=JUDGED_FIELDS)
        for name in JUDGED_FIELDS.names or ():
            found[name] = np.frombuffer(getattr(self, name), getattr(self, name).typecode)
        return found


@dataclass(slots=True)
class _Made:
    """What a piece became so far."""

    ids: list[NDArray[Any]] = field(default_factory=list)
    target: list[NDArray[np.bool_]] = field(default_factory=list)
    rows: list[NDArray[Any]] = field(default_factory=list)
    judged: _Judged = field(default_factory=_Judged)
    keys: list[list[Sequence[int] | None]] = field(default_factory=list)
    changed: Counter[int] = field(default_factory=Counter)
    reasons: dict[str, int] = field(default_factory=dict)
    n_tokens: int = 0

    def reason(self, why: str) -> int:
        return self.reasons.setdefault(why, len(self.reasons) + 1)


def make_segment(job: Job, piece: Piece, folder: Path) -> None:
    """Write the segment of a piece into a folder.

    Raises DataError naming the row that is wrong; where the first line of the piece is not known,
    the number it names counts from there.
    """
    made = _Made(keys=[[] for _ in job.chain.memories])
    reader = PieceReader(job.reader, piece)
    for chunk in _chunks(_judge_all(reader.examples(), job, made)):
        _take(job, chunk, made)
    _write(job, piece, reader, made, folder)


def facts_path(folder: Path, number: int) -> Path:
    """Give the path of a segment's facts, which are there when the segment is whole."""
    return folder / f"facts-{number:05d}.json"


def rows_path(folder: Path, number: int) -> Path:
    """Give the path of a segment's own rows."""
    return folder / f"rows-{number:05d}.part"


def judged_path(folder: Path, number: int) -> Path:
    """Give the path of what was made of every example of a segment."""
    return folder / f"judged-{number:05d}.part"


def keys_path(folder: Path, number: int, memory: int) -> Path:
    """Give the path of what a memory remembers of a segment."""
    return folder / f"keys-{number:05d}-{memory}.part"


def _judge_all(reads: Iterator[Read], job: Job, made: _Made) -> Iterator[tuple[Read, int]]:
    """Write down every example, and yield those still there with their place in that list.

    What is not there passes neither what always holds nor what each filter finds by itself.
    """
    chain = job.chain
    for read in reads:
        why, at = unusable(read.example), _BEFORE_ALL
        keys: Sequence[Sequence[int]] = ()
        if why is None:
            at = NEVER
            if chain.steps:
                outcome = chain.run(read.example)
                why, at, keys = outcome.reason, outcome.dropped_at, outcome.keys
                made.changed.update(outcome.changed)
                if outcome.example is not read.example:
                    read = _rewritten(read, outcome.example)
                    why = why or unusable(read.example)
        for m, known in enumerate(made.keys):
            known.append(keys[m] if m < len(keys) else None)
        flags = BY_FILE if read.by_file else 0
        for message in read.example.messages:
            if looks_like_mojibake(message.content):
                flags |= MOJIBAKE
        made.judged.add(read, 0 if why is None else made.reason(why), at, flags)
        if why is None:
            yield read, len(made.judged) - 1


def _rewritten(read: Read, example: Example) -> Read:
    content = content_key(example.messages)
    # A row that is its own document is known by what it says now, so that rows which a rewrite
    # made the same are on the same side of a split.
    document = content if read.document == read.content else read.document
    return replace(read, example=example, content=content, document=document)


def _chunks(reads: Iterable[tuple[Read, int]]) -> Iterator[list[tuple[Read, int]]]:
    chunk: list[tuple[Read, int]] = []
    size = 0
    for one in reads:
        chunk.append(one)
        for message in one[0].example.messages:
            size += len(message.content)
        if len(chunk) == _CHUNK_ROWS or size >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _take(job: Job, chunk: list[tuple[Read, int]], made: _Made) -> None:
    """Tokenize examples, cut them to length, and write down what became of them."""
    limit, renderer = job.settings.max_seq_len, job.renderer
    train_all = job.settings.train_on == "all"
    rendered = [renderer.render(read.example) for read, _ in chunk]
    block = tokenize(rendered, job.codec, train_all=train_all)
    left_out = np.zeros(len(chunk), dtype=np.int64)
    for i in np.flatnonzero(block.lengths > limit).tolist():
        example = chunk[i][0].example
        if example.window_from is not None:
            rendered[i], left_out[i] = _leave_out(job, example, rendered[i])
    if left_out.any():
        block = tokenize(rendered, job.codec, train_all=train_all)
    fitted = fit(block, limit, job.settings.overlong)
    n_rows = np.bincount(fitted.owner, minlength=len(chunk))
    for i, (_, place) in enumerate(chunk):
        text, fate = rendered[i], int(fitted.fate[i])
        made.judged.n_rows[place] = int(n_rows[i])
        if fate in _FATES:
            made.judged.reason[place] = made.reason(_FATES[fate])
        made.judged.flags[place] |= (
            (SHARED if block.shared[i] else 0)
            | (SPECIAL if text.split_specials else 0)
            | (UNENDED if text.unended else 0)
        )
    made.rows.append(_rows_of(chunk, fitted, left_out, made.n_tokens))
    made.ids.append(fitted.ids.astype(job.dtype))
    made.target.append(fitted.target)
    made.n_tokens += len(fitted.ids)


def _leave_out(job: Job, example: Example, whole: Rendered) -> tuple[Rendered, int]:
    """Leave out as few of the oldest turns as make an example fit, or none when none helps."""

    def fits(shorter: Example) -> bool:
        block = tokenize([job.renderer.render(shorter)], job.codec, train_all=False)
        return len(block.ids) <= job.settings.max_seq_len

    n_out = count_to_leave_out(example, fits)
    return (job.renderer.render(without_oldest(example, n_out)), n_out) if n_out else (whole, 0)


def _rows_of(
    chunk: list[tuple[Read, int]], fitted: Fitted, left_out: NDArray[np.int64], n_before: int
) -> NDArray[Any]:
    reads = [read for read, _ in chunk]
    rows = np.zeros(len(fitted.owner), dtype=ROW_FIELDS)
    owner = fitted.owner
    rows["row"] = np.array([r.row for r in reads], dtype=np.int64)[owner]
    rows["content"] = np.array([r.content for r in reads], dtype=np.uint64)[owner]
    rows["document"] = np.array([r.document for r in reads], dtype=np.uint64)[owner]
    rows["file"] = np.array([r.file for r in reads], dtype=np.int32)[owner]
    rows["sub"] = np.array([r.sub for r in reads], dtype=np.int32)[owner]
    rows["start"] = n_before + np.cumsum(fitted.lengths) - fitted.lengths
    rows["length"], rows["window"] = fitted.lengths, fitted.window
    rows["n_target"], rows["n_bytes"] = fitted.n_target, fitted.n_bytes
    rows["cut"], rows["left_out"] = fitted.cut, left_out[owner]
    return rows


def _write(job: Job, piece: Piece, reader: PieceReader, made: _Made, folder: Path) -> None:
    number = piece.number
    ids = _joined(made.ids, job.dtype)
    target = np.packbits(_joined(made.target, np.bool_), bitorder="little")
    hashes = {}
    for name, data in ((ids_name(number), ids.data), (target_name(number), target.data)):
        hashes[name] = hashlib.sha256(data).hexdigest()
        (folder / name).write_bytes(data)
    rows_path(folder, number).write_bytes(_joined(made.rows, ROW_FIELDS).data)
    judged_path(folder, number).write_bytes(made.judged.records().data)
    for m, place in enumerate(job.chain.memories):
        nothing = (0,) * job.chain.memory(place).width
        keys = np.array([k if k is not None else nothing for k in made.keys[m]], dtype=np.uint64)
        keys_path(folder, number, m).write_bytes(keys.data)
    facts = {
        "file": piece.file,
        "n_tokens": made.n_tokens,
        "n_lines": reader.n_lines,
        "blank_lines": reader.blank_lines,
        "is_numbered": piece.first_line is not None,
        "reasons": list(made.reasons),
        "changed": {str(place): n for place, n in made.changed.items()},
        "hashes": hashes,
    }
    aside = facts_path(folder, number).with_suffix(".aside")
    aside.write_bytes(orjson.dumps(facts))
    os.replace(aside, facts_path(folder, number))


def _joined(pieces: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=dtype)
