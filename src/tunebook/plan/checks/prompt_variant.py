"""prompt-variant: what all prompts share is shown; two variants joined to one are reported."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tunebook.plan.prompt_texts import PromptTexts, take_apart
from tunebook.plan.subject import Subject
from tunebook.records import Finding
from tunebook.units import shorten

_SHOWN = 20
_LEAST_WORDS = 3
_OFTEN = 0.05
_NO_SPACE = re.compile(r"[a-z]{2}[.!?][A-Z](?=[a-z]*\b)")
_NO_STOP = re.compile(r"\b([A-Za-z][a-z]+)([A-Z][a-z]+)\b")


def check(subject: Subject) -> Iterator[Finding]:
    """Look for a fixed text of prompts that holds another one, as when a comma was left out."""
    for texts in take_apart(subject):
        joined = _joined(texts)
        if not joined:
            continue
        whole, part = joined[0]
        yield Finding(
            "prompt-variant",
            "warn",
            f"{texts.source}: a text that {texts.fixed[whole]} of {texts.n_rows} sampled prompts "
            f"share, {shorten(whole)!r}, holds another one, {shorten(part)!r}, as when a comma is "
            "missing between two",
            {
                "joined": [{"text": a, "holds": b, "rows": texts.fixed[a]} for a, b in joined],
                "variants": _counted(texts.variants),
                "fixed_texts": _counted(texts.fixed),
                "sampled_rows": texts.n_rows,
            },
            "look at the list that the prompts were drawn from, and part the two",
        )


def _joined(texts: PromptTexts) -> list[tuple[str, str]]:
    """Give fixed texts that are two, each with one of them."""
    known = {text.strip(): n for text, n in texts.fixed.items() if _n_words(text) >= _LEAST_WORDS}
    found = []
    for text, n in texts.fixed.items():
        whole = text.strip()
        if _n_words(whole) <= _LEAST_WORDS:
            continue
        if (at := _missing_space(whole, texts.words)) is not None:
            found.append((text, whole[:at]))
            continue
        often = _OFTEN * texts.n_rows
        for part, n_part in known.items():
            if part != whole and part in whole:
                both_often = n >= often and n_part >= often
                if both_often or _is_joined(whole, part, known):
                    found.append((text, part))
                    break
    return found


def _missing_space(text: str, words: frozenset[str]) -> int | None:
    """Give where a sentence begins without a space, as `text.Say`, or `textSay` of two words."""
    if end := _NO_SPACE.search(text):
        return end.end() - 1
    for one in _NO_STOP.finditer(text):
        if {one[1].lower(), one[2].lower()} <= words:
            return one.start(2)
    return None


def _is_joined(whole: str, part: str, known: dict[str, int]) -> bool:
    """Say whether what is beside a part is another known text, or begins with no space between."""
    rest = whole.removeprefix(part) if whole.startswith(part) else whole.removesuffix(part)
    if rest == whole:
        return False
    no_space = whole.startswith(part) and part[-1].isalnum() and rest[0].isupper()
    return no_space or rest.strip() in known


def _n_words(text: str) -> int:
    return len(text.split())


def _counted(counts: Counter[str]) -> list[dict[str, object]]:
    return [{"text": text, "rows": n} for text, n in counts.most_common(_SHOWN)]
