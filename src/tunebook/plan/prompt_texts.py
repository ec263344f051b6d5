"""Tell the fixed words of prompts, which many rows share, from each row's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tunebook.data.codec import TextCodec
from tunebook.plan.rows import Exchange

_LEAST_ROWS, _LEAST_SHARE = 5, 0.01
_MOST_SENTENCES = 6
_SENTENCE_END = re.compile(r"(?<=[^\W\d])[.!?:][\"')]*(?=\s|[A-Z]|$)")
OWN = "…"
"""What stands for a row's own words."""


@dataclass(frozen=True, slots=True)
class PromptTexts:
    """The prompts of one source. `fixed` are lines and beginnings of lines, with their rows."""

    source: str
    n_rows: int
    fixed: Counter[str]
    variants: Counter[str]
    own: tuple[tuple[str, ...], ...]


def take_apart(exchanges: Sequence[Exchange], codec: TextCodec) -> list[PromptTexts]:
    """Take the prompts of every source apart; `own` has each row's own words, block by block."""
    by_source: dict[str, list[list[str]]] = {}
    specials = sorted(filter(None, codec.special_strings), key=len, reverse=True)
    ends = re.compile("(" + "|".join([*map(re.escape, specials), "\n"]) + ")")
    for one in exchanges:
        by_source.setdefault(one.row.source, []).append(ends.split(one.prompt))
    return [_of_source(source, prompts) for source, prompts in by_source.items()]


def _of_source(source: str, prompts: Sequence[list[str]]) -> PromptTexts:
    least = max(_LEAST_ROWS, round(_LEAST_SHARE * len(prompts)))
    counts = Counter(line for lines in prompts for line in set(lines) if line.strip())
    fixed = Counter({line: n for line, n in counts.items() if n >= least})
    heads = Counter(
        head for lines in prompts for head in {h for line in lines for h in _heads(line)}
    )
    variants: Counter[str] = Counter()
    own = []
    used: Counter[str] = Counter()
    for lines in prompts:
        shown, blocks = [], [""]
        for line in lines:
            if not line.strip() or line in fixed:
                shown.append(line)
                blocks += [""] if line.strip() else []
                continue
            head = next((h for h in reversed(_heads(line)) if heads[h] >= least), "")
            shown.append(f"{head} {OWN}".strip())
            used[head] += 1
            blocks += [""] if head else []
            blocks[-1] += f"{line[len(head) :].strip()}\n"
        variants[re.sub(rf"{OWN}(?:\s*{OWN})+", OWN, "".join(shown))] += 1
        own.append(tuple(block.strip() for block in blocks if block.strip()))
    fixed.update({head: n for head, n in used.items() if head})
    return PromptTexts(source, len(prompts), fixed, variants, tuple(own))


def _heads(line: str) -> list[str]:
    """Give the beginnings of a line that end with a sentence or a colon, but for the whole."""
    ends = [match.end() for match in _SENTENCE_END.finditer(line)][:_MOST_SENTENCES]
    return [line[:end] for end in ends if line[end:].strip()]
