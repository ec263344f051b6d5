"""How much an answer says again: of itself, of other answers, of its prompt; shares of tokens."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

_LONGEST_BLOCK = 16
_COPIES = 3
_SHORTEST_LOOP = 12


def ngrams(ids: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """Give the runs of n tokens, in order."""
    return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]


def repeated(ids: Sequence[int], n: int) -> float:
    """Give the share of n-grams that stood before in the same answer; 0 without any.

    seq-rep-n of Welleck et al. 2020 (Neural Text Generation With Unlikelihood Training).
    """
    found = ngrams(ids, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def loops(ids: Sequence[int]) -> bool:
    """Tell whether an answer ends in one block of up to 16 tokens over and over.

    That is at least three copies and twelve tokens.
    """
    for block in range(1, _LONGEST_BLOCK + 1):
        length = max(_COPIES * block, _SHORTEST_LOOP)
        tail = ids[-length:]
        if len(tail) == length and all(tail[i] == tail[i + block] for i in range(length - block)):
            return True
    return False


def distinct(answers: Iterable[Sequence[int]], n: int, budget: int) -> float | None:
    """Give the share of different n-grams in the first `budget` tokens of answers laid end to end.

    distinct-n of Li et al. 2016; it falls with length, so only equal budgets compare. None where
    there are fewer tokens. No n-gram reaches from one answer into the next.
    """
    found, left = list[tuple[Hashable, ...]](), budget
    for ids in answers:
        found += ngrams(ids[:left], n)
        left -= min(left, len(ids))
    return len(set(found)) / len(found) if found and not left else None


def copied(prompt: Sequence[Hashable], ids: Sequence[Hashable], n: int = 5) -> float:
    """Give the share of an answer's n-grams that stand in its prompt."""
    found, there = ngrams(ids, n), set(ngrams(prompt, n))
    return sum(one in there for one in found) / len(found) if found else 0.0
