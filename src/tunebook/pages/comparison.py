"""Scores of several subjects and every pair of them, as the cells of tables and for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunebook.book.codec import to_plain
from tunebook.pages.evaluations import interval_text
from tunebook.records import Comparison, Estimate
from tunebook.statistics.words import verdict_text
from tunebook.units import format_count, format_number

SCORE_HEADER = ("weights", "score", "95 % interval", "n", "missing")
PAIR_HEADER = (
    "pair",
    "verdict",
    "difference",
    "95 % interval",
    "p",
    "p of all pairs",
    "n",
    "n needed",
    "detectable",
    "margin",
)


def score_cells(name: str, one: Estimate) -> list[str]:
    """Put a score into the cells of `SCORE_HEADER`."""
    interval = interval_text(one.interval)
    return [
        name,
        format_number(one.score),
        interval,
        format_count(one.n),
        format_count(one.missing),
    ]


def pair_cells(names: tuple[str, str], found: Comparison) -> list[str]:
    """Put a comparison into the cells of `PAIR_HEADER`."""
    return [
        " minus ".join(names),
        verdict_text(found),
        format_number(found.difference),
        interval_text(found.interval),
        format_number(found.p),
        format_number(found.p_adjusted),
        format_count(found.n),
        "" if found.n_needed is None else format_count(found.n_needed),
        format_number(found.detectable),
        format_number(found.margin),
    ]


def plain_pairs(
    estimates: Mapping[str, Estimate], pairs: Mapping[tuple[str, str], Comparison]
) -> list[dict[str, Any]]:
    """Give an object for each pair, with the scores of both."""
    return [
        {
            "subjects": names,
            "scores": [
                {"score": one.score, "interval": one.interval, "n": one.n}
                for one in (estimates[name] for name in names)
            ],
            **to_plain(compared),
        }
        for names, compared in pairs.items()
    ]
