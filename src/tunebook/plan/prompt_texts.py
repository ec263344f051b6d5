"""Tell the fixed words of prompts, which many rows share, from each row's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunebook.data.codec import TextCodec
from tunebook.plan.rows import first_exchanges
from tunebook.plan.subject import Subject, once

_LEAST_ROWS, _LEAST_SHARE = 5, 0.01
_EVERYWHERE = 0.8
_MOST_SENTENCES = 6
_SENTENCE_END = re.compile(r"(?<=[^\W\d])[.!?:][\"')]*(?=\s|[A-Z]|$)")
_WORD = re.compile(r"[^\W\d_]+")
OWN = "…"
"""What stands for a row's own words."""


@dataclass(frozen=True, slots=True)
class PromptTexts:
    """The prompts of one source. `fixed` are lines and beginnings of lines, with their rows.

    `words` are all words of the prompts, in small letters.
    """

    source: str
    n_rows: int
    fixed: Counter[str]
    variants: Counter[str]
    own: tuple[tuple[str, ...], ...]
    words: frozenset[str]


@once
def take_apart(subject: Subject) -> list[PromptTexts]:
    """Take the prompts of every source apart; `own` has each row's own words, block by block."""
    by_source: dict[str, list[list[str]]] = {}
    if subject.codec is None:
        return []
    ends = re.compile("(" + "|".join([*_specials(subject.codec), "\n"]) + ")")
    for one in first_exchanges(subject):
        by_source.setdefault(one.row.source, []).append(ends.split(one.prompt))
    return [_of_source(source, prompts) for source, prompts in by_source.items()]


def lines_of(prompt: str, codec: TextCodec) -> list[str]:
    """Give the lines of a prompt, cut at special tokens, without empty ones."""
    lines = re.split("|".join([*_specials(codec), "\n"]), prompt)
    return [line.strip() for line in lines if line.strip()]


def _specials(codec: TextCodec) -> list[str]:
    return [re.escape(s) for s in sorted(filter(None, codec.special_strings), key=len)[::-1]]


def _of_source(source: str, prompts: Sequence[list[str]]) -> PromptTexts:
    least = max(_LEAST_ROWS, round(_LEAST_SHARE * len(prompts)))
    lines = _count(prompts, lambda line: [line] if line.strip() else [])
    heads = _count(prompts, _heads)
    fixed = Counter({line: n for line, n in lines.items() if n >= least})
    firsts = _count(prompts, lambda line: line.split()[:1])
    lasts = _count(prompts, lambda line: line.split()[-1:])
    everywhere = _EVERYWHERE * len(prompts)

    def cut(line: str) -> tuple[str, str, str]:
        """Cut a line into fixed words, the row's own, and fixed words."""
        words = line.split()
        first = words[0] if len(words) > 2 and firsts[words[0]] >= everywhere else ""
        last = words[-1] if len(words) > 2 and lasts[words[-1]] >= everywhere else ""
        head = next((h for h in reversed(_heads(line)) if heads[h] >= least), first)
        return head, line.strip().removeprefix(head.strip()).removesuffix(last).strip(), last

    variants: Counter[str] = Counter()
    own = []
    for prompt in prompts:
        shown, blocks = [], [""]
        for line in prompt:
            if not line.strip() or line in fixed:
                shown.append(line)
                blocks += [""] if line.strip() else []
                continue
            head, words, tail = cut(line)
            shown.append(f"{head} {OWN} {tail}".strip())
            blocks += [""] if head else []
            blocks[-1] += f"{words}\n"
            fixed[head] += bool(head and head not in lines)
        variants[_shortened("".join(shown))] += 1
        own.append(tuple(block.strip() for block in blocks if block.strip()))
    known = {word for prompt in prompts for line in prompt for word in _WORD.findall(line.lower())}
    return PromptTexts(source, len(prompts), +fixed, variants, tuple(own), frozenset(known))


def _count(prompts: Sequence[list[str]], texts_of: Callable[[str], Sequence[str]]) -> Counter[str]:
    """Count the prompts that have a text in any of their lines."""
    return Counter(
        text for lines in prompts for text in {text for line in lines for text in texts_of(line)}
    )


def _shortened(text: str) -> str:
    """Show own words that follow each other, and turns of a talk that are alike, once."""
    text = re.sub(rf"{OWN}(?:\s*{OWN})+", OWN, text)
    return re.sub(r"((?:[^\n]*\n){1,6}?)\1+", lambda many: many[1 if OWN in many[1] else 0], text)


def _heads(line: str) -> list[str]:
    """Give the beginnings of a line that end with a sentence or a colon, but for the whole."""
    ends = [match.end() for match in _SENTENCE_END.finditer(line)][:_MOST_SENTENCES]
    return [line[:end] for end in ends if line[end:].strip()]
