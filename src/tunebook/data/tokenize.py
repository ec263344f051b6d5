"""From rendered text to token ids, which of them carry loss, and how many bytes each covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.data.codec import Encoded, TextCodec


@dataclass(frozen=True, slots=True)
class Segment:
    """Text that is tokenized as one string; characters in `spans` [start, end) carry loss.

    With `end` the tokenizer's end token follows, as a target.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    end: bool


@dataclass(frozen=True, slots=True)
class Rendered:
    """One example as text, ready for the tokenizer.

    `begin` puts the tokenizer's own begin token in front. With `specials` the strings of special
    tokens become those tokens, as a chat template wants it. `split_specials` counts strings of
    special tokens in the author's own text that were kept plain text, `unended` the answers that
    no end token follows.
    """

    segments: tuple[Segment, ...]
    begin: bool
    specials: bool
    split_specials: int = 0
    unended: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """An example as arrays, before it is cut to length. `n_bytes` is per token, specials 0.

    `shared` says that a token holds both the end of a prompt and the start of its answer.
    """

    ids: NDArray[np.int64]
    target: NDArray[np.bool_]
    n_bytes: NDArray[np.int64]
    shared: bool


def tokenize(rendered: Sequence[Rendered], codec: TextCodec, *, train_all: bool) -> list[Row]:
    """Tokenize examples together; with `train_all` every token but the first carries loss."""
    encoded: dict[bool, list[Encoded]] = {}
    for specials in (False, True):
        texts = [s.text for r in rendered if r.specials is specials for s in r.segments]
        encoded[specials] = codec.encode_batch(texts, specials=specials) if texts else []
    walks = {specials: iter(found) for specials, found in encoded.items()}
    return [
        _assemble(one, [next(walks[one.specials]) for _ in one.segments], codec, train_all)
        for one in rendered
    ]


def _assemble(
    rendered: Rendered, encoded: Sequence[Encoded], codec: TextCodec, train_all: bool
) -> Row:
    ids: list[int] = []
    target: list[NDArray[np.bool_]] = []
    n_bytes: list[NDArray[np.int64]] = []
    shared = False
    if rendered.begin and codec.bos_id is not None:
        ids.append(codec.bos_id)
        target.append(np.zeros(1, dtype=bool))
        n_bytes.append(np.zeros(1, dtype=np.int64))
    for segment, (found, offsets) in zip(rendered.segments, encoded, strict=True):
        starts, ends = _columns(offsets)
        carries, straddles = _overlap(starts, ends, segment.spans)
        shared |= straddles
        covered = _bytes_per_token(segment.text, ends)
        if rendered.specials:
            covered[np.isin(found, list(codec.special_ids))] = 0
        ids += found
        target.append(carries)
        n_bytes.append(covered)
        if segment.end and codec.eos_id is not None:
            ids.append(codec.eos_id)
            target.append(np.ones(1, dtype=bool))
            n_bytes.append(np.zeros(1, dtype=np.int64))
    carries_loss = np.concatenate(target) if target else np.zeros(0, dtype=bool)
    if train_all:
        carries_loss[:] = True
    carries_loss[:1] = False
    sizes = np.concatenate(n_bytes) if n_bytes else np.zeros(0, dtype=np.int64)
    return Row(np.array(ids, dtype=np.int64), carries_loss, sizes, shared)


def _columns(offsets: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pairs = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _overlap(
    starts: NDArray[np.int64], ends: NDArray[np.int64], spans: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.bool_], bool]:
    """Mark tokens that share a character with a span, and tell whether one also reaches before."""
    carries = np.zeros(len(starts), dtype=bool)
    shared = False
    for start, stop in spans:
        inside = (ends > start) & (starts < stop)
        shared |= bool(np.any(inside & (starts < start)))
        carries |= inside
    return carries, shared


def _bytes_per_token(text: str, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the UTF-8 bytes that each token adds, so that the sum is that of the text.

    Characters that no token claims (some tokenizers trim spaces) count to the next token; several
    tokens of one character count it once.
    """
    if not len(ends):
        return np.zeros(0, dtype=np.int64)
    reached = np.maximum.accumulate(ends)
    before = np.concatenate([[0], reached[:-1]])
    if text.isascii():
        return np.asarray(reached - before, dtype=np.int64)
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    sizes = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    total = np.concatenate([[0], np.cumsum(sizes)])
    return np.asarray(total[reached] - total[before], dtype=np.int64)
