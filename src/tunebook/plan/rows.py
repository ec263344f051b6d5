"""Rows at the end of the pipe: as they are stored, and as the micro-batches hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunebook.data.codec import TextCodec
from tunebook.data.shards import Part, row_id
from tunebook.plan.subject import Subject
from tunebook.records import Tokens

SAMPLE_ROWS = 500
_SAMPLE_TOKENS = 200_000
_LOOKED_AT = 50_000


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of a row; `whole` says that its own end is in it: nothing was cut off there.

    `stored` is the row as it was read from disk, for a row of a micro-batch.
    """

    source: str
    id: str
    ids: NDArray[Any]
    target: NDArray[np.bool_]
    whole: bool
    stored: Tokens | None = None


def sample_rows(subject: Subject, n: int = SAMPLE_ROWS) -> list[Row]:
    """Read up to n training rows of every source, evenly spread over it."""
    if subject.prepared is None:
        return []
    parts = [part for shards in subject.prepared.train.sources for part in shards.parts]
    return [row for part in parts for row in rows_of_part(part, part.numbers, n)]


def sample_ends(subject: Subject, n: int = SAMPLE_ROWS) -> list[Row]:
    """Read up to n of the training rows of every source that hold the end of what was read."""
    if subject.prepared is None:
        return []
    found = []
    for shards in subject.prepared.train.sources:
        for part in shards.parts:
            some = spread(part.numbers, _LOOKED_AT)
            window = part.store.rows["window"]
            is_last = (some + 1 == len(window)) | (
                window[np.minimum(some + 1, len(window) - 1)] < 2
            )
            ends = some[is_last & (part.store.rows["cut"][some] == 0)]
            found += list(rows_of_part(part, ends, n))
    return found


def rows_of_part(part: Part, numbers: NDArray[np.int64], n: int) -> Iterator[Row]:
    """Read n of these examples of a part, evenly spread; fewer where they are very long."""
    chosen = spread(numbers, n)
    size = int(part.store.rows["length"][chosen].sum(dtype=np.int64)) if len(chosen) else 0
    if size > _SAMPLE_TOKENS:
        chosen = spread(chosen, max(20, len(chosen) * _SAMPLE_TOKENS // size))
    rows = part.store.rows
    for number in chosen.tolist():
        one = rows[number]
        ids, target = part.store.tokens(number)
        name = row_id(part.store, part.name, int(one["file"]), int(one["row"]), int(one["sub"]))
        window = int(one["window"])
        is_last = not window or number + 1 == len(rows) or rows["window"][number + 1] <= 1
        whole = bool(is_last and one["cut"] == 0)
        shown = f"{name}/{window}" if window else name
        yield Row(part.name, shown, np.asarray(ids, dtype=np.int64), target, whole)


def spread(numbers: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Take n of these numbers, evenly spread."""
    if len(numbers) <= n:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, n).astype(np.int64)]


def batch_rows(subject: Subject) -> list[Row]:
    """Take the micro-batches of the first steps apart, each row beside what is stored of it."""
    wanted = {name for batch in subject.batches for name in batch.example_ids}
    stored: dict[str, Tokens] = {}
    index = 0
    if subject.prepared is not None and subject.horizon is not None:
        while len(stored) < len(wanted) and index < subject.horizon.total_rows:
            for example in subject.prepared.train.row(index):
                stored[example.tokens.id] = example.tokens
            index += 1
    found = []
    for batch in subject.batches:
        for place, name in enumerate(batch.example_ids):
            mine, known = batch.segment == place, stored.get(name)
            is_window = "/" in name.rpartition("#")[2]
            whole = known is not None and not known.cut_tokens and not is_window
            found.append(
                Row(batch.sources[place], name, batch.ids[mine], batch.target[mine], whole, known)
            )
    return found


def padding_of(row: Row, codec: TextCodec) -> NDArray[np.bool_]:
    """Mark what is no token of the row itself.

    That is what is beyond its stored length, the pad token, and of a run of end or pad tokens at
    either side all but the one that may belong there.
    """
    ids = np.asarray(row.ids)
    found = np.zeros(len(ids), dtype=bool)
    if row.stored is not None and len(ids) > (size := len(row.stored.ids)):
        at_right = size > 0 and np.array_equal(ids[-size:], np.array(row.stored.ids))
        found[: len(ids) - size] = at_right
        found[size:] |= not at_right
    pad, end = codec.pad_id, codec.eos_id
    if pad is not None and pad not in (end, codec.bos_id) and not _is_unknown(codec, pad):
        found |= ids == pad
    fill = np.isin(ids, [i for i in (pad, end) if i is not None])
    if fill.all():
        found[1:] = True
        return found
    n_left, n_right = int(np.argmin(fill)), int(np.argmin(fill[::-1]))
    found[: max(0, n_left - 1)] = True
    found[len(ids) - max(0, n_right - 1) :] = True
    return found


def _is_unknown(codec: TextCodec, token: int) -> bool:
    # Many a tokenizer pads with its token for unknown characters, which text may hold.
    return "unk" in codec.decode([token]).lower()


@dataclass(frozen=True, slots=True)
class Exchange:
    """The first answer of a row and all before it, as text with special tokens shown."""

    row: Row
    prompt: str
    answer: str


def first_exchanges(subject: Subject, n: int = SAMPLE_ROWS) -> list[Exchange]:
    """Decode prompt and answer of sampled rows; none of rows that are trained from the start."""
    codec, found = subject.codec, []
    for row in sample_rows(subject, n) if codec is not None else []:
        assert codec is not None
        places = np.flatnonzero(row.target)
        if not len(places) or places[0] < 2 or row.id.rpartition("#")[2].count("/"):
            continue
        start = int(places[0])
        gaps = np.flatnonzero(~row.target[start:])
        stop = start + int(gaps[0]) if len(gaps) else len(row.ids)
        begin = int(row.ids[0] == codec.bos_id)
        answer = [i for i in row.ids[start:stop].tolist() if i not in codec.special_ids]
        prompt = codec.decode(row.ids[begin:start].tolist())
        found.append(Exchange(row, prompt, codec.decode(answer).strip()))
    return found
