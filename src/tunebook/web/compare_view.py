"""A comparison as its page shows it: words, numbers and places on an axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunebook.pages.dots import Axis, axis_over
from tunebook.pages.evaluations import interval_text
from tunebook.statistics.words import verdict_text

if TYPE_CHECKING:
    from tunebook.records import Comparison
    from tunebook.workflows.compare_runs import RunsCompared

_TITLES = {
    "loss": "Held-out loss",
    "judge": "Judge",
    "pairs": "Judge, in pairs with the base",
    "probe": "Probes",
    "chess": "Chess: legal moves",
    "chess-puzzles": "Chess: puzzles",
    "chess-games": "Chess: games",
    "val_loss": "Last validation",
}
_CHIPS = {"different": "info", "equivalent": "good", "cannot tell": "warn"}


def title_of(kind: str) -> str:
    """Name a kind of evaluation as a heading."""
    return _TITLES.get(kind, kind.replace("harness:", "Harness: "))


def panel_of(found: RunsCompared, colours: Mapping[str, int]) -> dict[str, Any]:
    """Lay a comparison out; `colours` has the place of each name among the curves."""
    estimates = found.estimates
    axis = axis_over(v for one in estimates.values() for v in (one.score, *(one.interval or ())))
    margins = [one.margin for one in found.pairs.values()]
    ends = (
        v for one in found.pairs.values() for v in (one.difference, *(one.interval or ()))
    )  # fmt: skip
    differences = axis_over(ends, also=[0.0, *margins, *(-m for m in margins)])
    return {
        "found": found,
        "ticks": axis.ticks() if axis else [],
        "scores": [
            {
                "name": name,
                "colour": colours[name],
                "one": one,
                "sorted_by": found.sorted_by.get(name),
                "interval": interval_text(one.interval),
                **_places(axis, one.score, one.interval),
            }
            for name, one in estimates.items()
        ],
        "difference_ticks": differences.ticks() if differences and found.pairs else [],
        "pairs": [
            _pair(names, one, differences, found.lower_is_better)
            | {
                "tags": [
                    (tag, tagged, verdict_text(tagged), interval_text(tagged.interval))
                    for tag, tagged in found.by_tag.get(names, {}).items()
                ]
            }
            for names, one in found.pairs.items()
        ],
        "chances": sorted((found.chance_best or {}).items(), key=lambda one: -one[1]),
    }


def _pair(
    names: tuple[str, str], one: Comparison, axis: Axis | None, lower_is_better: bool
) -> dict[str, Any]:
    better = ""
    if one.verdict == "different":
        better = names[(one.difference < 0) != lower_is_better]
    small = one.p_equivalent is not None and one.p_equivalent < 0.05
    return {
        "names": names,
        "one": one,
        "chip": _CHIPS[one.verdict],
        "verdict": one.verdict,
        "words": verdict_text(one).partition(one.verdict)[2].lstrip(":, "),
        "better": better,
        "small": one.verdict == "different" and small,
        "interval": interval_text(one.interval),
        "zero": axis.place(0) if axis else None,
        "margin": (axis.place(-one.margin), axis.place(one.margin)) if axis else None,
        **_places(axis, one.difference, one.interval),
    }


def _places(
    axis: Axis | None, value: float | None, interval: tuple[float, float] | None
) -> dict[str, float | None]:
    if axis is None or value is None:
        return {"at": None, "low": None, "high": None}
    low, high = interval or (None, None)
    return {
        "at": axis.place(value),
        "low": None if low is None else axis.place(low),
        "high": None if high is None else axis.place(high),
    }
