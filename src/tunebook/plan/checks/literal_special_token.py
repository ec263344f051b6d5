"""literal-special-token: special tokens that stand in the data as plain text teach to write it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tunebook.data.codec import TextCodec
from tunebook.data.filters.repair_special_tokens import KNOWN
from tunebook.plan.rows import Row, sample_rows
from tunebook.plan.subject import Subject
from tunebook.records import Finding

_FEW = 0.01
# Old corpora write these for rare and left-out words, which teaches nothing about where to stop.
_SIGNS = {"<unk>", "<mask>", "[UNK]", "[MASK]"}
_NOT_WORDS = ("INST]", "SYS>>", "_of_turn>")


def check(subject: Subject) -> Iterator[Finding]:
    """Decode sampled rows, true special tokens left out, and look for the text of any.

    Within a text in few rows they are perhaps what it is about, and only told. Strings that mean
    something elsewhere, as `<s>` in HTML, count when they are at the edge of a text in more than a
    hundredth of the rows.
    """
    codec = subject.codec
    if codec is None:
        return
    strings = _strings(subject, codec)
    found: dict[str, list[str]] = {}
    at_edges: set[str] = set()
    n_rows: dict[str, int] = {}
    for row in sample_rows(subject):
        n_rows[row.source] = n_rows.get(row.source, 0) + 1
        for text, at_edge in strings_in(row, codec, strings).items():
            found.setdefault(text, []).append(row.id)
            at_edges |= {text} if at_edge else set()
    total = sum(n_rows.values())
    counted = {
        text: ids
        for text, ids in found.items()
        if not _is_ambiguous(text) or len(ids) > _FEW * total
    }
    if not counted:
        return
    wrong = [t for t, ids in counted.items() if t in at_edges or len(ids) > _FEW * total]
    text, ids = max(counted.items(), key=lambda one: (one[0] in wrong, len(one[1])))
    yield Finding(
        "literal-special-token",
        "refuse" if wrong else "warn",
        f"{text!r} stands as plain text in {len(ids)} of {total} sampled rows, first in {ids[0]}, "
        f"so the model {'learns' if wrong else 'may learn'} to write it out instead of to stop",
        {
            "strings": {text: len(ids) for text, ids in counted.items()},
            "sampled_rows": total,
            "rows": ids[:5],
            "special_rows": _special_rows(subject),
        },
        "take it out with `filters: [repair_special_tokens]` in the source; in plain text it may "
        "part documents: say `document: separator`",
    )


def strings_in(row: Row, codec: TextCodec, strings: frozenset[str]) -> dict[str, bool]:
    """Give those of some strings that a row has as plain text, and whether at an edge of a text.

    Ambiguous ones are given only at an edge.
    """
    ids = np.asarray(row.ids)
    special = np.isin(ids, list(codec.special_ids))
    # The first token of a row carries no loss, which parts no text.
    target = np.concatenate([row.target[1:2], row.target[1:]])[: len(ids)]
    edges = np.flatnonzero(np.diff(2 * special + target)) + 1
    found: dict[str, bool] = {}
    whole = codec.decode(ids[~special].tolist())
    strings = frozenset(text for text in strings if text in whole)
    if not strings:
        return found
    for piece, is_special in zip(np.split(ids, edges), np.split(special, edges), strict=True):
        text = codec.decode(piece[~is_special].tolist())
        for one in strings:
            at_edge = text.strip().startswith(one) or text.strip().endswith(one)
            if at_edge or (one in text and not _is_ambiguous(one)):
                found[one] = at_edge or found.get(one, False)
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
