"""What the data layer needs of a tokenizer; `tunebook.models.tokenizer` fits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Encoded = tuple[list[int], list[tuple[int, int]]]
"""Token ids, and for each the characters [start, end) of the text it came from."""


FlatTokens = tuple[
    NDArray[Any], NDArray[np.int64], NDArray[np.integer[Any]], NDArray[np.int64] | None
]
"""The tokens of several texts laid end to end: (ids, counts, n_bytes, starts).

`counts` is per text; the others are per token, which stands for `n_bytes` UTF-8 bytes of its own
text from byte `starts` on. None: the tokens spell the text, so each starts where the last ended.
Else a character of several tokens may be each one's.
"""


class TextCodec(Protocol):
    """A tokenizer with text positions and, perhaps, a chat template; it can be pickled.

    `fingerprint` is a sha256 of the tokenizer's files. `bos_id` is set only when the tokenizer
    itself puts a begin token in front of text; `pad_id` is never used, only looked for. Every id is
    below `vocab_size`. `normalizes_specials`: it looks for special tokens in what its normalizer
    makes of a text, in which capitals or full width may have become one.
    """

    name: str
    fingerprint: str
    vocab_size: int
    eos_id: int | None
    pad_id: int | None
    bos_id: int | None
    special_ids: frozenset[int]
    special_strings: tuple[str, ...]
    normalizes_specials: bool
    has_chat_template: bool
    chat_template: str | None

    def encode(self, text: str, *, specials: bool) -> Encoded:
        """Encode without begin or end tokens; `specials=False` reads their strings as text."""
        ...

    def encode_flat(self, texts: Sequence[str], *, specials: bool) -> FlatTokens:
        """Encode many texts at once, as `encode` would each."""
        ...

    def without(self, library: str) -> TextCodec:
        """Give the same tokenizer that does not use a library any more."""
        ...

    def render_chat(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool
    ) -> str:
        """Render messages through the tokenizer's own chat template."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Write ids as text, special tokens shown."""
        ...
