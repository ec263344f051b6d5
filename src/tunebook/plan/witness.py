"""The same rows read a second time, straight from their files, to hold the tokens against.

A check that looks only at what the pipeline says of itself finds no fault in it. So some rows of
every source are read anew, taken through the filters one by one, and compared with what stands at
the end of the pipe. Only the beginning of files is read, so that a large source costs no more than
a small one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.data.build import Built
from tunebook.data.documents import TextPart
from tunebook.data.examples import Read, Reader
from tunebook.data.filters import NamedFilter, build_filters
from tunebook.data.filters.chain import Filter, Memory, Rewrite
from tunebook.data.filters.usable import unusable
from tunebook.data.prepare import Prepared
from tunebook.data.rows import RawRow
from tunebook.data.shards import row_id
from tunebook.data.store import Store
from tunebook.plan.files import Raw, raw_rows, row_of, size_of
from tunebook.recipe.tree import Recipe, Source
from tunebook.records import Example

_SAMPLED = 200
_READ_ROWS = 20_000
_READ_CHARACTERS = 16 * 2**20
_READ_FILES = 16

Place = tuple[int, int, int]
"""Where a row stands in its source: file, row and sub, as in a store."""


@dataclass(frozen=True, slots=True)
class Witness:
    """One row read anew. `example` is as the file has it, `expected` after the rewrites.

    `id` is the row's id at the end of the pipe, without the number of a window. `dropped_by` names
    the filter that drops it when it is asked by itself, or says why nothing can be learned from it;
    filters that compare rows are not asked. `changed_by` names the rewrites that changed it.
    `numbers` are its examples in the store of its source, several where it is in windows, and
    `left_out` is the reason that the store gives for having none.
    """

    source: str
    id: str
    example: Example
    expected: Example
    dropped_by: str | None
    changed_by: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    left_out: str | None = None


def read_witnesses(
    prepared: Prepared, recipe: Recipe, wanted: Collection[str] = ()
) -> tuple[Witness, ...]:
    """Read rows spread over each source of a recipe, and those of the `wanted` ids in reach.

    Positions that an engine labels are left out: asking it again takes minutes.
    """
    rows = frozenset(map(without_window, wanted))
    found: list[Witness] = []
    for built, source in zip(prepared.built, recipe.data, strict=True):
        if is_labelled(built, source):
            continue
        filters = build_filters(source.filters, source)
        reads = _read(built, source, recipe.stage, rows)
        at = _find([_place(read) for read in reads], built.store)
        for read in reads:
            numbers, left_out = at[_place(read)]
            expected, dropped_by, changed_by = ask(filters, read.example)
            found.append(
                Witness(
                    source=built.name,
                    id=_id_of(built, read),
                    example=read.example,
                    expected=expected,
                    dropped_by=dropped_by,
                    changed_by=changed_by,
                    numbers=tuple(numbers),
                    left_out=left_out,
                )
            )
    return tuple(found)


def is_labelled(built: Built, source: Source) -> bool:
    """Tell whether an engine has to be asked to read the rows of a source."""
    return built.detected.format in ("chess-uci", "pgn") and "best_move" in source.chess.shares


def ask(
    filters: Sequence[NamedFilter], example: Example
) -> tuple[Example, str | None, tuple[str, ...]]:
    """Take a row through filters one by one: (as rewritten, what drops it, what changed it)."""
    changed: list[str] = []
    if (why := unusable(example)) is not None:
        return example, why, ()
    for one in filters:
        if isinstance(one.judge, Rewrite):
            after = one.judge.rewrite(example)
            if after.messages != example.messages:
                changed.append(one.name)
            example = after
        elif isinstance(one.judge, Filter) and one.judge.reason(example) is not None:
            return example, one.name, tuple(changed)
    return example, unusable(example), tuple(changed)


def has_memory(source: Source) -> bool:
    """Tell whether a source has a filter that compares rows."""
    return any(isinstance(one.judge, Memory) for one in build_filters(source.filters))


def without_window(example_id: str) -> str:
    """Give the id of the row that an example is a window of."""
    head, _, row = example_id.rpartition("#")
    return f"{head}#{row.partition('/')[0]}"


def _place(read: Read) -> Place:
    return read.file, read.row, read.sub


def _read(built: Built, source: Source, stage: str, wanted: Collection[str]) -> list[Read]:
    """Read rows spread over the beginnings of files that are spread over the source.

    Only these rows are made examples: of a game of chess that takes milliseconds.
    """
    reader = Reader(built.located, built.detected, source, stage)
    n_files = len(built.located.files)
    files = sorted(_spread(n_files, _READ_FILES))
    n_each = -(-_SAMPLED // len(files))
    found: list[Read] = []
    for file in files:
        rows = raw_rows(built.located.files[file], built.detected, source)
        known = list(_begin(rows, _READ_ROWS // len(files), _READ_CHARACTERS // len(files)))
        due, some = _rows_in(wanted, built, file), _spread(len(known), n_each)
        taken = [raw for i, raw in enumerate(known) if i in some or row_of(raw) in due]
        reads = list(_examples(reader, file, taken))
        some = _spread(len(reads), n_each)
        found += [r for i, r in enumerate(reads) if i in some or _id_of(built, r) in wanted]
    return found


def _id_of(built: Built, read: Read) -> str:
    return row_id(built.store, built.name, *_place(read))


def _rows_in(wanted: Collection[str], built: Built, file: int) -> set[int]:
    """Give the rows of a file that ids name."""
    where = row_id(built.store, built.name, file, 0, 0).removesuffix("0")
    rows = (one.removeprefix(where).partition(".")[0] for one in wanted if one.startswith(where))
    return {int(row) for row in rows if row.isdigit()}


def _begin(rows: Iterator[Raw], n_rows: int, n_characters: int) -> Iterator[Raw]:
    for n_read, raw in enumerate(rows, start=1):
        yield raw
        n_characters -= size_of(raw)
        if n_read >= n_rows or n_characters <= 0:
            return


def _examples(reader: Reader, file: int, rows: Sequence[Raw]) -> Iterator[Read]:
    if rows and isinstance(rows[0], RawRow):
        yield from reader.of_rows(file, (raw for raw in rows if isinstance(raw, RawRow)))
    elif rows and isinstance(rows[0], TextPart):
        yield from reader.of_documents(file, (raw for raw in rows if isinstance(raw, TextPart)))
    else:
        yield from reader.of_lines(file, (raw for raw in rows if isinstance(raw, tuple)))


def _spread(n: int, n_wanted: int) -> set[int]:
    """Give places spread evenly over n."""
    return {round(i) for i in np.linspace(0, n - 1, min(n, n_wanted)).tolist()}


def _find(places: Sequence[Place], store: Store) -> dict[Place, tuple[list[int], str | None]]:
    """Find rows in a store: the numbers of their examples, or the reason that it was left out."""
    found: dict[Place, tuple[list[int], str | None]] = {place: ([], None) for place in places}
    for number in _candidates(places, store.rows["file"], store.rows["row"]):
        one = store.rows[number]
        place = (int(one["file"]), int(one["row"]), int(one["sub"]))
        if place in found:
            found[place][0].append(number)
    drops = store.drop_records()
    for number in _candidates(places, drops["file"], drops["row"]):
        one = drops[number]
        place = (int(one["file"]), int(one["row"]), int(one["sub"]))
        if place in found:
            found[place] = (found[place][0], store.facts["reasons"][int(one["reason"])])
    return found


def _candidates(
    places: Sequence[Place], files: NDArray[np.int32], rows: NDArray[np.int64]
) -> list[int]:
    wanted: dict[int, list[int]] = {}
    for file, row, _ in places:
        wanted.setdefault(file, []).append(row)
    # One copy, or every file's search would read all records of the store again.
    files, rows = np.ascontiguousarray(files), np.ascontiguousarray(rows)
    found: list[int] = []
    for file, few in wanted.items():
        found += np.flatnonzero((files == file) & np.isin(rows, np.array(few))).tolist()
    return found
