"""A chess player's Elo in words, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def elo_lines(details: Mapping[str, Any]) -> Iterator[str]:
    """Write the Elo of games line by line, with where the opponents' ratings are from."""
    elo, ratings = details["elo"], details.get("ratings", {})
    if "reason" in elo:
        yield f"Elo unknown: {elo['reason']}"
        return
    low, high = elo["interval"]
    if elo["elo"] is None:
        side = (
            f"below {high:.0f}, all were lost" if low is None else f"above {low:.0f}, all were won"
        )
        yield f"{elo['scale']}: {side} (95 %)"
    else:
        yield f"{elo['scale']}: {elo['elo']:.0f} ({_end(low)} to {_end(high)}), given the ratings"
    for name, source in elo["sources"].items():
        known = ratings.get(name, {})
        of = f" {known['elo']:.0f}" if known else ""
        spread = f" ± {1.96 * known['error']:.0f}" if known.get("error") else ""
        yield f"rating of {name}{of}{spread}: {source}"
    if elo["fit_p"] is not None:
        verdict = "the ratings do not explain the results" if elo["fit_p"] < 0.05 else "they fit"
        yield f"ratings against results: p {elo['fit_p']:.3f}, {verdict}"
        for fit in elo["fits"]:
            yield (
                f"  {fit['opponent']} ({fit['opponent_elo']:.0f}): {fit['score']:.3f} a game, "
                f"expected {fit['expected']:.3f}"
                + ("" if fit["p"] is None else f", p {fit['p']:.3f}")
            )


def _end(limit: float | None) -> str:
    return "unknown" if limit is None else f"{limit:.0f}"
