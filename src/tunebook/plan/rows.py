"""Rows at the end of the pipe: as they are stored, and as the micro-batches hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunebook.data.codec import TextCodec
from tunebook.data.shards import Part, row_id
from tunebook.plan.ends import fresh_rows
from tunebook.plan.subject import Subject, once
from tunebook.records import Tokens

_SAMPLE_ROWS = 500
_SAMPLE_TOKENS = 200_000
_LOOKED_AT = 50_000


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of a row; `whole` says that its own end is in it: nothing was cut off there.

    For a row of a micro-batch, `stored` is the row as it is read from disk, and `fresh` its tokens
    made anew of its file.
    """

    source: str
    id: str
    ids: NDArray[Any]
    target: NDArray[np.bool_]
    whole: bool
    stored: Tokens | None = None
    fresh: NDArray[Any] | None = None


@once
def sample_rows(subject: Subject) -> list[Row]:
    """Read up to 500 training rows of every source, evenly spread over it."""
    if subject.prepared is None:
        return []
    parts = [part for shards in subject.prepared.train.sources for part in shards.parts]
    return [row for part in parts for row in _rows_of_part(part, part.numbers)]


@once
def sample_ends(subject: Subject) -> list[Row]:
    """Read up to 500 of the training rows of every source that hold the end of what was read."""
    if subject.prepared is None:
        return []
    found = []
    for shards in subject.prepared.train.sources:
        for part in shards.parts:
            some = spread(part.numbers, _LOOKED_AT)
            found += list(_rows_of_part(part, some[_are_whole(part, some)]))
    return found


def _are_whole(part: Part, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which examples have the end of what was read: whole rows, and last windows."""
    window = part.store.rows["window"]
    last = len(window) - 1
    is_last = (numbers == last) | (window[np.minimum(numbers + 1, last)] < 2)
    return np.asarray(is_last & (part.store.rows["cut"][numbers] == 0))


def _rows_of_part(part: Part, numbers: NDArray[np.int64]) -> Iterator[Row]:
    """Read some of these examples of a part, evenly spread; fewer where they are very long."""
    chosen = spread(numbers, _SAMPLE_ROWS)
    size = int(part.store.rows["length"][chosen].sum(dtype=np.int64)) if len(chosen) else 0
    if size > _SAMPLE_TOKENS:
        chosen = spread(chosen, max(20, len(chosen) * _SAMPLE_TOKENS // size))
    rows = part.store.rows
    whole = _are_whole(part, chosen).tolist()
    for place, number in enumerate(chosen.tolist()):
        one = rows[number]
        ids, target = part.store.tokens(number)
        name = row_id(part.store, part.name, int(one["file"]), int(one["row"]), int(one["sub"]))
        window = int(one["window"])
        shown = f"{name}/{window}" if window else name
        yield Row(part.name, shown, np.asarray(ids, dtype=np.int64), target, whole[place])


def spread(numbers: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Take n of these numbers, evenly spread."""
    if len(numbers) <= n:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, n).astype(np.int64)]


@once
def batch_rows(subject: Subject) -> list[Row]:
    """Take the micro-batches of the first steps apart, each row beside what is stored of it.

    `stored` is None for a row that is none of those that these steps should have.
    """
    stored, fresh = _rows_of_batches(subject), fresh_rows(subject)
    found = []
    for batch in subject.batches:
        for place, name in enumerate(batch.example_ids):
            mine, known = batch.segment == place, stored.get(name)
            is_window = "/" in name.rpartition("#")[2]
            found.append(
                Row(
                    batch.sources[place],
                    name,
                    batch.ids[mine],
                    batch.target[mine],
                    whole=known is not None and not known.cut_tokens and not is_window,
                    stored=known,
                    fresh=fresh.get(name),
                )
            )
    return found


def _rows_of_batches(subject: Subject) -> dict[str, Tokens]:
    """Read the rows of the steps that the micro-batches are of."""
    found: dict[str, Tokens] = {}
    horizon, n_batches, step = subject.horizon, 0, 1
    if subject.prepared is None or horizon is None:
        return found
    while n_batches < len(subject.batches) and step <= horizon.total_steps:
        rows = horizon.rows_of_step(step)
        for index in rows:
            for example in subject.prepared.train.row(index):
                found[example.tokens.id] = example.tokens
        n_batches += -(-len(rows) // horizon.micro_batch_size)
        step += 1
    return found


def padding_of(row: Row, codec: TextCodec) -> NDArray[np.bool_]:
    """Mark what only fills a row up.

    That is what is beyond its stored length, and pad or end tokens at its edges: those that the row
    made anew has not; where that is not known, all but one of them. A pad token that text can hold
    (some pad with "!") then counts for nothing.
    """
    ids = np.asarray(row.ids)
    found = np.zeros(len(ids), dtype=bool)
    if row.stored is not None:
        found |= _beyond(ids, np.array(row.stored.ids))
    fills = {i for i in (codec.pad_id, codec.eos_id) if i is not None}
    fresh = row.fresh
    if fresh is not None and len(fresh) and _shares_an_edge(ids, fresh):
        return found | (_beyond(ids, fresh) & np.isin(ids, list(fills)))
    pad = codec.pad_id
    if pad is not None and pad != codec.eos_id and _is_text(codec, pad):
        fills.discard(pad)
    fill = np.isin(ids, list(fills))
    if fill.all():
        found[1:] = True
        return found
    n_left, n_right = int(np.argmin(fill)), int(np.argmin(fill[::-1]))
    found[: max(0, n_left - 1)] = True
    found[len(ids) - max(0, n_right - 1) :] = True
    return found


def _beyond(ids: NDArray[Any], own: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark what stands in front of a row's own tokens, or else behind as many as they are."""
    size = len(own)
    at_right = 0 < size < len(ids) and np.array_equal(ids[-size:], own)
    places = np.arange(len(ids))
    return places < len(ids) - size if at_right else places >= size


def _shares_an_edge(ids: NDArray[Any], own: NDArray[Any]) -> bool:
    n = min(len(ids), len(own))
    return np.array_equal(ids[:n], own[:n]) or np.array_equal(ids[-n:], own[-n:])


def _is_text(codec: TextCodec, token: int) -> bool:
    return codec.encode(codec.decode([token]), specials=False)[0] == [token]


@dataclass(frozen=True, slots=True)
class Exchange:
    """The first answer of a row and all before it, as text with special tokens shown."""

    row: Row
    prompt: str
    answer: str


@once
def first_exchanges(subject: Subject) -> list[Exchange]:
    """Decode prompt and answer of sampled rows; none of rows that are trained from the start."""
    codec, found = subject.codec, []
    for row in sample_rows(subject) if codec is not None else []:
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
