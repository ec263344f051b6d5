"""What is lost to the longest row, told and untold."""

from __future__ import annotations

from collections.abc import Iterator

from tunebook.accounts import SourceAccount
from tunebook.data.codec import TextCodec
from tunebook.plan.ends import End, as_tokenized, ends, find_text, text_of
from tunebook.plan.subject import Subject
from tunebook.records import Finding

_WORTH_TELLING = 0.01
_TELLING = 8  # characters of a text's beginning that do not end another by chance
_WAY_OUT = "raise max_seq_len, or split long rows where they are made"


def check(subject: Subject) -> Iterator[Finding]:
    """Warn of sources that lose 1 % of their rows or tokens, or any that no account tells of."""
    if subject.prepared is None:
        return
    for account in subject.prepared.accounts:
        yield from _told(account)
    if subject.codec is None:
        return
    untold: dict[str, list[str]] = {}
    n_seen: dict[str, int] = {}
    for end in ends(subject):
        if end.witness.dropped_by is None and not end.cut and end.window in (0, end.n_windows):
            n_seen[end.witness.source] = n_seen.get(end.witness.source, 0) + 1
            if ends_early(end, subject.codec):
                untold.setdefault(end.witness.source, []).append(end.id)
    for name, rows in untold.items():
        yield Finding(
            "truncation",
            "warn",
            f"{len(rows)} of {n_seen[name]} rows of {name} that were read anew end before their "
            f"text does, and no account tells of it, as {rows[0]}",
            {
                "source": name,
                "rows": len(rows),
                "rows_read_anew": n_seen[name],
                "told": False,
                "examples": rows[:5],
            },
            _WAY_OUT,
        )


def _told(account: SourceAccount) -> Iterator[Finding]:
    n_dropped = account.dropped.get("overlong", 0)
    n_before = account.tokens + account.cut_tokens
    shares = {
        "dropped_rows": n_dropped / max(account.rows_in, 1),
        "cut_rows": account.cut_rows / max(account.rows_out, 1),
        "cut_tokens": account.cut_tokens / max(n_before, 1),
    }
    if max(shares.values()) < _WORTH_TELLING:
        return
    lost = []
    if n_dropped:
        lost.append(f"{n_dropped} of {account.rows_in} rows dropped as too long")
    if account.cut_rows:
        lost.append(
            f"{account.cut_rows} of {account.rows_out} rows cut by {account.cut_tokens} tokens"
        )
    yield Finding(
        "truncation",
        "warn",
        f"{account.path}: {' and '.join(lost)}",
        {
            "source": account.name,
            "rows_in": account.rows_in,
            "dropped_rows": n_dropped,
            "cut_rows": account.cut_rows,
            "cut_tokens": account.cut_tokens,
            "share": shares,
            "told": True,
        },
        _WAY_OUT,
    )


def ends_early(end: End, codec: TextCodec) -> bool:
    """Tell whether a row ends within its last text."""
    last = [m for m in end.messages if m.role in ("assistant", "text")]
    said = text_of(codec, end.ids)
    if not last or not said:
        return False
    if end.window:
        # A window begins somewhere in its text; the last one ends where that does.
        return not as_tokenized(codec, last[-1].content[-4 * len(said) :]).endswith(
            said[-_TELLING:]
        )
    if find_text(codec, said, last[-1].content) is not None:
        return False
    whole = as_tokenized(codec, last[-1].content)
    begin = said.rfind(whole[:_TELLING])
    return begin >= 0 and whole.startswith(said[begin:])
