"""Which words an answer is made of, and how alike two answers are."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_PRIOR_WORDS = 1000
_SIGNIFICANT = 1.96


def words(text: str) -> list[str]:
    """Split a text into its words in lower case; numbers and signs are none."""
    return [word.lower() for word in _WORD.findall(text)]


def domain_terms(own: Iterable[str], other: Iterable[str], n: int = 300) -> frozenset[str]:
    """Choose up to n words that texts have in excess of others.

    Log-odds ratio with an informative Dirichlet prior, as a z-score (Monroe, Colaresi and Quinn
    2008, "Fightin' Words", equations 16 and 22); the prior is the words of both together, weighed
    as 1,000. Only words with z above 1.96 count, so there may be fewer than n.
    """
    a, b = (Counter(word for text in texts for word in words(text)) for texts in (own, other))
    n_a, n_b = a.total(), b.total()
    scores = {}
    for word, in_a in a.items():
        in_b = b[word]
        prior = _PRIOR_WORDS * (in_a + in_b) / (n_a + n_b)
        with_a, with_b = in_a + prior, in_b + prior
        odds_a = math.log(with_a / (n_a + _PRIOR_WORDS - with_a))
        odds_b = math.log(with_b / (n_b + _PRIOR_WORDS - with_b))
        scores[word] = (odds_a - odds_b) / math.sqrt(1 / with_a + 1 / with_b)
    telling = sorted(scores, key=lambda w: (-scores[w], w))[:n]
    return frozenset(word for word in telling if scores[word] > _SIGNIFICANT)


def term_share(text: str, terms: frozenset[str]) -> float:
    """Give the share of a text's words that are among some; 0 for a text without words."""
    found = words(text)
    return sum(word in terms for word in found) / len(found) if found else 0.0


def likeness(texts: Sequence[str]) -> float | None:
    """Give the mean ROUGE-L F1 (Lin 2004) of all pairs of texts; None for fewer than two."""
    said = [words(text) for text in texts]
    pairs = [_rouge_l(a, b) for a, b in combinations(said, 2)]
    return math.fsum(pairs) / len(pairs) if pairs else None


def _rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    """Give 2 LCS / (len a + len b), LCS the longest common subsequence; empty texts are alike."""
    if not a and not b:
        return 1.0
    row = [0] * (len(b) + 1)
    for word in a:
        before = row[:]
        for j, other in enumerate(b, start=1):
            row[j] = before[j - 1] + 1 if word == other else max(row[j - 1], before[j])
    return 2 * row[-1] / (len(a) + len(b))
