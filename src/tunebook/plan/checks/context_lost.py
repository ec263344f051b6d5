"""How much of a talk is left before the answer that it leads to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tunebook.data.codec import TextCodec
from tunebook.plan.ends import End, ends, find_text, squeeze, text_of
from tunebook.plan.subject import Subject
from tunebook.records import Finding, Message

_LOST = 0.2
_BETWEEN_TURNS = 16  # tokens that a template may write around a turn
_STEPS = ("0 %", "1-25 %", "26-50 %", "51-75 %", "76-99 %", "100 %")


@dataclass(slots=True)
class _Seen:
    """Rows with turns before their last question, and how many of these turns they kept."""

    turns: int = 0
    kept: int = 0
    histogram: Counter[str] = field(default_factory=Counter)
    bare: list[str] = field(default_factory=list)


def check(subject: Subject) -> Iterator[Finding]:
    """Warn when talks lose more than a fifth of their turns, or all where some would have fit."""
    if subject.codec is None or subject.recipe.stage != "sft":
        return
    seen: dict[str, _Seen] = {}
    for end in ends(subject):
        history = _history(end.witness.expected.messages, end.witness.expected.window_from)
        if history and end.witness.dropped_by is None and not end.cut:
            _note(
                end, history, subject.codec, subject, seen.setdefault(end.witness.source, _Seen())
            )
    for name, one in seen.items():
        lost = 1 - one.kept / one.turns
        if not one.bare and lost <= _LOST:
            continue
        what = f"{name}: {lost:.0%} of the turns before the last question are left out"
        if one.bare:
            what += (
                f", and {len(one.bare)} rows lost all of them although some would have fit, as "
                f"{one.bare[0]}"
            )
        yield Finding(
            "context-lost",
            "warn",
            what,
            {
                "source": name,
                "rows_with_history": one.histogram.total(),
                "turns": one.turns,
                "turns_kept": one.kept,
                "share_kept": {step: one.histogram[step] for step in _STEPS},
                "rows_bare": len(one.bare),
                "examples": one.bare[:5],
            },
            "raise max_seq_len; where rows lost all although some would fit, please report it",
        )


def _history(messages: Sequence[Message], window_from: int | None) -> Sequence[Message]:
    """Give the turns before the last question, without what stands before a talk."""
    last = len(messages) - 1
    asked = next((i for i in range(last - 1, -1, -1) if messages[i].role == "user"), 0)
    while asked and messages[asked - 1].role in ("knowledge", "input"):
        asked -= 1
    first = window_from
    if first is None:
        first = next((i for i, m in enumerate(messages) if m.role != "system"), 0)
    return [m for m in messages[first:asked] if squeeze(m.content)]


def _note(
    end: End, history: Sequence[Message], codec: TextCodec, subject: Subject, seen: _Seen
) -> None:
    """Find the turns of a row from the newest back, and note how many are there."""
    said = text_of(codec, end.ids)
    n_kept = 0
    # The turn that is asked about stands behind them all.
    for n in range(len(history), 0, -1):
        if _are_in_turn(codec, said, history[-n:]):
            n_kept = n
            break
    seen.turns += len(history)
    seen.kept += n_kept
    seen.histogram[_step_of(n_kept / len(history))] += 1
    if n_kept == 0 and _would_fit(end, history[-1], codec, subject.recipe.max_seq_len):
        seen.bare.append(end.id)


def _are_in_turn(codec: TextCodec, said: str, turns: Sequence[Message]) -> bool:
    at = 0
    for turn in turns:
        found = find_text(codec, said, turn.content, at)
        if found is None:
            # Knowledge is written before the question that it answers.
            if turn.role != "knowledge" or find_text(codec, said, turn.content) is None:
                return False
            continue
        at = found[1] if turn.role != "knowledge" else at
    return True


def _would_fit(end: End, turn: Message, codec: TextCodec, limit: int) -> bool:
    n_tokens = len(codec.encode(turn.content, specials=False)[0])
    return len(end.ids) + n_tokens + _BETWEEN_TURNS <= limit


def _step_of(share: float) -> str:
    if share in (0, 1):
        return _STEPS[0] if share == 0 else _STEPS[-1]
    return _STEPS[1 + min(int(share * 4), 3)]
