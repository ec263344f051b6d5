"""What stands at the end of the pipe for the rows that were read anew: tokens, and their text.

Where a row is in the first micro-batches, that is its end, else what is stored of it. Texts are
compared without white space, which tokenizers and templates may change, and without special tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunebook.data.codec import TextCodec
from tunebook.data.store import Store
from tunebook.data.tokenize import tokenize
from tunebook.errors import TunebookError
from tunebook.plan.subject import Subject, once
from tunebook.plan.witness import Witness
from tunebook.records import Message

_MAX_WINDOWS = 5


@dataclass(frozen=True, slots=True)
class End:
    """A row, or a window of it, as it will be trained: `ids` and which of them are targets.

    `window` counts from 1 (0: the whole row) up to `n_windows`. `cut` tokens and `left_out` turns
    are what the account says was lost of it. `in_batch` tells a batch's row from a stored one.
    """

    witness: Witness
    id: str
    ids: NDArray[np.int64]
    target: NDArray[np.bool_]
    window: int
    n_windows: int
    cut: int
    left_out: int
    in_batch: bool

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the row should say: as rewritten, without turns that were left out and said so."""
        expected = self.witness.expected
        first = expected.window_from
        if first is None or not self.left_out:
            return expected.messages
        return (*expected.messages[:first], *expected.messages[first + self.left_out :])


@once
def ends(subject: Subject) -> list[End]:
    """List the ends of all witnesses that are stored: a few windows of those that have many."""
    if subject.prepared is None:
        return []
    found = []
    stores = {built.name: built.store for built in subject.prepared.built}
    batched = _batched_rows(subject)
    for witness in subject.witnesses:
        store, n = stores[witness.source], len(witness.numbers)
        shown = sorted({round(i) for i in np.linspace(0, n - 1, min(n, _MAX_WINDOWS))})
        for number in [witness.numbers[i] for i in shown]:
            found.append(_end(witness, store, number, n, batched))
    return found


_Tokens = tuple[NDArray[np.int64], NDArray[np.bool_]]


def _batched_rows(subject: Subject) -> dict[str, _Tokens]:
    found: dict[str, _Tokens] = {}
    for batch in subject.batches:
        for place, example_id in enumerate(batch.example_ids):
            here = batch.segment == place
            found.setdefault(example_id, (batch.ids[here], batch.target[here]))
    return found


def _end(
    witness: Witness, store: Store, number: int, n_windows: int, batched: dict[str, _Tokens]
) -> End:
    row = store.rows[number]
    window = int(row["window"])
    example_id = f"{witness.id}/{window}" if window else witness.id
    known = batched.get(example_id)
    if known is None:
        ids, target = store.tokens(number)
        known = ids.astype(np.int64), target
    return End(
        witness,
        example_id,
        *known,
        window=window,
        n_windows=n_windows,
        cut=int(row["cut"]),
        left_out=int(row["left_out"]),
        in_batch=example_id in batched,
    )


@once
def fresh_rows(subject: Subject) -> dict[str, NDArray[np.int64]]:
    """Make the tokens of the witnesses anew, by their ids; those that no template takes are left.

    Tokens that were lost of the stored rows are in them.
    """
    found: dict[str, NDArray[np.int64]] = {}
    built = () if subject.prepared is None else subject.prepared.built
    renderers = {one.name: one.renderer for one in built}
    for witness in subject.witnesses:
        if witness.dropped_by is not None:
            continue
        renderer = renderers[witness.source]
        try:
            block = tokenize([renderer.render(witness.expected)], renderer.codec, train_all=True)
        except TunebookError:
            continue
        found[witness.id] = block.ids.astype(np.int64)
    return found


def squeeze(text: str) -> str:
    """Take the white space out of a text, and what is left of characters that were cut apart."""
    return "".join(text.split()).strip("\ufffd")


def text_of(codec: TextCodec, ids: NDArray[np.int64]) -> str:
    """Write tokens as squeezed text, special tokens left out."""
    return squeeze(codec.decode([i for i in ids.tolist() if i not in codec.special_ids]))


def find_text(codec: TextCodec, inside: str, wanted: str, start: int = 0) -> tuple[int, int] | None:
    """Find a text in a squeezed one, also as the tokenizer gives it back: (begin, end) or None."""
    said = squeeze(wanted)
    at = inside.find(said, start)
    if at < 0:
        said = as_tokenized(codec, wanted)
        at = inside.find(said, start)
    return (at, at + len(said)) if at >= 0 else None


def as_tokenized(codec: TextCodec, text: str) -> str:
    """Give a text as it comes back from the tokenizer, which may not know all signs; squeezed."""
    return text_of(codec, np.array(codec.encode(text, specials=False)[0], dtype=np.int64))
