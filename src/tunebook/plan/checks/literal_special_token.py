"""literal-special-token: special tokens that stand in the data as plain text teach to write it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tunebook.data.codec import TextCodec
from tunebook.data.filters.repair_special_tokens import KNOWN
from tunebook.plan.rows import Row, sample_rows
from tunebook.plan.subject import Subject
from tunebook.records import Finding

_AMBIGUOUS_SHARE = 0.01
# Old corpora write these for rare and left-out words, which teaches nothing about where to stop.
_SIGNS = {"<unk>", "<mask>", "[UNK]", "[MASK]"}
_NOT_WORDS = ("INST]", "SYS>>", "_of_turn>")


def check(subject: Subject) -> Iterator[Finding]:
    """Decode sampled rows, true special tokens left out, and look for the text of any.

    Strings that mean something elsewhere, as `<s>` in HTML, count when they are at the edge of a
    text in more than a hundredth of the rows.
    """
    codec = subject.codec
    if codec is None:
        return
    strings = _strings(subject, codec)
    found: dict[str, list[str]] = {}
    n_rows: dict[str, int] = {}
    for row in sample_rows(subject):
        n_rows[row.source] = n_rows.get(row.source, 0) + 1
        for text in strings_in(row, codec, strings):
            found.setdefault(text, []).append(row.id)
    total = sum(n_rows.values())
    counted = {
        text: ids
        for text, ids in found.items()
        if not _is_ambiguous(text) or len(ids) > _AMBIGUOUS_SHARE * total
    }
    if not counted:
        return
    text, ids = max(counted.items(), key=lambda one: len(one[1]))
    yield Finding(
        "literal-special-token",
        "refuse",
        f"{text!r} stands as plain text in {len(ids)} of {total} sampled rows, first in {ids[0]}, "
        "so the model learns to write it out instead of to stop",
        {
            "strings": {text: len(ids) for text, ids in counted.items()},
            "sampled_rows": total,
            "rows": ids[:5],
            "special_rows": _special_rows(subject),
        },
        "take it out with `filters: [repair_special_tokens]` in the source; in plain text it may "
        "part documents: say `document: separator`",
    )


def strings_in(row: Row, codec: TextCodec, strings: frozenset[str]) -> set[str]:
    """Give those of some strings that a row has as plain text; ambiguous ones only at an edge."""
    ids = np.asarray(row.ids)
    special = np.isin(ids, list(codec.special_ids))
    edges = np.flatnonzero(np.diff(2 * special + row.target)) + 1
    found: set[str] = set()
    whole = codec.decode(ids[~special].tolist())
    strings = frozenset(text for text in strings if text in whole)
    if not strings:
        return found
    for piece, is_special in zip(np.split(ids, edges), np.split(special, edges), strict=True):
        text = codec.decode(piece[~is_special].tolist())
        for one in strings:
            at_edge = text.strip().startswith(one) or text.strip().endswith(one)
            if at_edge or (one in text and not _is_ambiguous(one)):
                found.add(one)
    return found


def _strings(subject: Subject, codec: TextCodec) -> frozenset[str]:
    """Give the strings to look for, but for those that the chat template itself writes as text."""
    prepared = subject.prepared
    written = codec.chat_template if prepared and "model" in prepared.template else None
    known = {*KNOWN, *filter(None, codec.special_strings)}
    own = set(codec.special_strings)
    return frozenset(one for one in known - _SIGNS if one in own or one not in (written or ""))


def _is_ambiguous(text: str) -> bool:
    return not (text.startswith("<|") or any(word in text for word in _NOT_WORDS))


def _special_rows(subject: Subject) -> int:
    built = subject.prepared.built if subject.prepared is not None else ()
    return sum(int(one.store.facts["special_rows"]) for one in built)
