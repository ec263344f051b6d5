"""Rewrites that were worked out and then not written."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.data.codec import TextCodec
from tunebook.plan.ends import End, ends, find_text, squeeze, text_of
from tunebook.plan.subject import Subject
from tunebook.records import Finding

_TELLING = 8  # characters from which on a text does not stand in another by chance


def check(subject: Subject) -> Iterator[Finding]:
    """Warn where rows say at the end of the pipe what they said before a rewrite changed them."""
    if subject.codec is None:
        return
    rewritten: dict[str, list[str]] = {}
    unused: dict[str, list[str]] = {}
    for end in ends(subject):
        if not end.witness.changed_by or end.witness.dropped_by is not None or end.window > 1:
            continue
        for name in end.witness.changed_by:
            rewritten.setdefault(name, []).append(end.id)
        if _is_unused(end, subject.codec):
            for name in end.witness.changed_by:
                unused.setdefault(name, []).append(end.id)
    for name, rows in unused.items():
        n = len(rewritten[name])
        yield Finding(
            "rewrite-unused",
            "warn",
            f"{len(rows)} of {n} rows that {name} rewrites are trained as they were before it, as "
            f"{rows[0]}",
            {"rewrite": name, "rows": len(rows), "rewritten_rows": n, "examples": rows[:5]},
            "delete the cached tokens with `tunebook clean` and plan again; if it stays, please "
            "report it",
        )


def _is_unused(end: End, codec: TextCodec) -> bool:
    """Tell whether an old text is still there, or a new one is not where all of the row is."""
    said = text_of(codec, end.ids)
    new = {squeeze(message.content) for message in end.messages}
    for message in end.witness.example.messages:
        old = squeeze(message.content)
        if len(old) >= _TELLING and not any(old in text for text in new) and old in said:
            return True
    is_whole = not (end.cut or end.left_out or end.window)
    kept = _rendered(end)
    return is_whole and any(find_text(codec, said, text) is None for text in kept)


def _rendered(end: End) -> list[str]:
    """Give the new texts that every template writes; turns behind the last answer say nothing."""
    messages = end.messages
    old = {message.content for message in end.witness.example.messages}
    last = max((i for i, m in enumerate(messages) if m.role in ("assistant", "text")), default=-1)
    return [m.content for m in messages[: last + 1] if m.content not in old]
