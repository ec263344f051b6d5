"""From rendered text to token ids, which of them carry loss, and how many bytes each covers.

Examples are tokenized many at a time and worked on as flat arrays; nothing here looks at one token
or one example alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunebook.data.codec import TextCodec


@dataclass(frozen=True, slots=True)
class Segment:
    """Text that is tokenized as one string; characters in `spans` [start, end) carry loss.

    With `end` the tokenizer's end token follows, as a target when `end_carries`.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    end: bool
    end_carries: bool = True


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
class TokenBlock:
    """Examples as flat arrays: example i has the tokens starts[i] .. starts[i + 1].

    Per token: `ids`, `target`, and `n_bytes`, special tokens counting 0. `shared` says per example
    that a token holds both the end of a prompt and the start of its answer.
    """

    ids: NDArray[Any]
    target: NDArray[np.bool_]
    n_bytes: NDArray[np.int32]
    starts: NDArray[np.int64]
    shared: NDArray[np.bool_]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each example."""
        return np.diff(self.starts)


def tokenize(rendered: Sequence[Rendered], codec: TextCodec, *, train_all: bool) -> TokenBlock:
    """Tokenize examples together; with `train_all` every token but the first carries loss."""
    kinds = {one.specials for one in rendered}
    if len(kinds) > 1:
        raise ValueError("examples of one block are rendered by one template")
    specials = bool(kinds and kinds.pop())
    segments = [segment for one in rendered for segment in one.segments]
    found, counts, covered, starts = codec.encode_flat(
        [s.text for s in segments], specials=specials
    )
    carries, straddling = np.ones(1, dtype=bool), np.zeros(0, dtype=np.int64)
    if not train_all or starts is not None:
        base, starts, ends = _places(segments, counts, covered, starts)
        carries, straddling = _overlap(segments, base, starts, ends)
        covered = _bytes_per_token(ends, base, counts)
    if specials:
        covered = np.where(np.isin(found, list(codec.special_ids)), 0, covered)

    has_begin = np.array([one.begin and codec.bos_id is not None for one in rendered], dtype=bool)
    per_row = np.array([len(one.segments) for one in rendered], dtype=np.int64)
    has_end = np.array([s.end and codec.eos_id is not None for s in segments], dtype=bool)
    row_starts, end_places = _lay_out(counts, per_row, has_begin, has_end)
    n_tokens = int(row_starts[-1])
    is_text = np.ones(n_tokens, dtype=bool)
    is_text[row_starts[:-1][has_begin]] = False
    is_text[end_places] = False
    ids = np.empty(n_tokens, dtype=np.uint32)
    n_bytes = np.zeros(n_tokens, dtype=np.int32)
    ids[is_text], n_bytes[is_text] = found, covered
    if codec.bos_id is not None and has_begin.any():
        ids[row_starts[:-1][has_begin]] = codec.bos_id
    if codec.eos_id is not None and has_end.any():
        ids[end_places] = codec.eos_id
    if train_all:
        target = np.ones(n_tokens, dtype=bool)
    else:
        target = np.zeros(n_tokens, dtype=bool)
        target[is_text] = carries
        target[end_places] = np.array([s.end_carries for s in segments], dtype=bool)[has_end]
    target[row_starts[:-1][np.diff(row_starts) > 0]] = False
    shared = np.zeros(len(rendered), dtype=bool)
    shared[np.repeat(np.arange(len(rendered)), per_row)[straddling]] = True
    return TokenBlock(ids, target, n_bytes, row_starts, shared)


def _lay_out(
    counts: NDArray[np.int64],
    per_row: NDArray[np.int64],
    has_begin: NDArray[np.bool_],
    has_end: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give where each row starts, and the places of end tokens."""
    segment_sizes = counts + has_end
    first_segment = np.concatenate([[0], np.cumsum(per_row)])
    total = np.concatenate([[0], np.cumsum(segment_sizes)])
    row_sizes = total[first_segment[1:]] - total[first_segment[:-1]] + has_begin
    row_starts = np.concatenate([[0], np.cumsum(row_sizes)]).astype(np.int64)
    begins_before = np.repeat(np.cumsum(has_begin), per_row)
    return row_starts, (total[:-1] + begins_before + counts)[has_end]


def _places(
    segments: Sequence[Segment],
    counts: NDArray[np.int64],
    covered: NDArray[Any],
    starts: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give where each segment, and each token, starts and ends in the bytes of all segments."""
    sizes = np.array([_n_bytes(s.text) for s in segments], dtype=np.int64)
    base = np.cumsum(sizes) - sizes
    if starts is None:
        ends = np.cumsum(covered, dtype=np.int64)
        return base, ends - covered, ends
    starts = starts + np.repeat(base, counts)
    return base, starts, starts + covered


def _overlap(
    segments: Sequence[Segment],
    base: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Mark tokens that share a byte with a span; name segments where one also reaches before it."""
    spans = [(n, *_bytes_of(s.text, span)) for n, s in enumerate(segments) for span in s.spans]
    if not spans or not len(starts):
        return np.zeros(len(starts), dtype=bool), np.zeros(0, dtype=np.int64)
    which, begin, stop = np.array(spans, dtype=np.int64).T
    begin, stop = begin + base[which], stop + base[which]
    # Starts and ends of successive tokens never go back, so each span is one run of tokens.
    first = np.searchsorted(np.maximum.accumulate(ends), begin, side="right")
    behind = np.searchsorted(np.maximum.accumulate(starts), stop, side="left")
    some = behind > first
    change = np.zeros(len(starts) + 1, dtype=np.int64)
    np.add.at(change, first[some], 1)
    np.add.at(change, behind[some], -1)
    carries = np.cumsum(change[:-1]) > 0
    reaches = some & (starts[np.minimum(first, len(starts) - 1)] < begin)
    return carries, which[reaches]


def _bytes_of(text: str, span: tuple[int, int]) -> tuple[int, int]:
    start, stop = span
    if text.isascii():
        return start, stop
    before = _n_bytes(text[:start])
    return before, before + _n_bytes(text[start:stop])


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _bytes_per_token(
    ends: NDArray[np.int64], base: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the UTF-8 bytes that each token adds, so that the sum is that of the text.

    Bytes that no token claims (some tokenizers trim spaces) count to the next token; several
    tokens of one character count it once.
    """
    if not len(ends):
        return np.zeros(0, dtype=np.int64)
    reached = np.maximum.accumulate(ends)
    before = np.concatenate([[0], reached[:-1]])
    first = (np.cumsum(counts) - counts)[counts > 0]
    before[first] = base[counts > 0]
    return np.asarray(reached - before, dtype=np.int64)
