"""How far a setting goes with a result over runs: a sign of what matters, never its cause."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

FEWEST_RUNS = 8
"""With fewer runs nothing is said, whatever the numbers are."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Importance:
    """How strongly a setting goes with a result.

    `strength` is a rank correlation, -1 to 1, of numbers (measure rank), or the share of the
    result's variance that lies between groups, 0 to 1, of words (measure share). It and its 95 %
    `interval` are None where they are not defined.
    """

    measure: Literal["rank", "share"]
    strength: float | None
    interval: tuple[float, float] | None
    n: int
    reason: str = ""

    @property
    def told(self) -> bool:
        """Tell whether the interval leaves 0 out, with runs enough to say so."""
        if self.interval is None or self.n < FEWEST_RUNS:
            return False
        return self.interval[0] > 0 or self.interval[1] < 0


def rank_importance(values: Sequence[float], results: Sequence[float]) -> Importance:
    """Give Spearman's rank correlation, with Fisher's z and the error of Bonett and Wright (2000).

    Values in the very same order as the results would have an interval without width; it is then
    that of ranks in which two neighbours are exchanged.
    """
    from scipy import stats

    n = len(values)
    if len(set(values)) < 2 or len(set(results)) < 2:
        return Importance("rank", None, None, n, "one of them is the same in every run")
    strength = float(stats.spearmanr(values, results).statistic)
    if n < 4:
        return Importance("rank", strength, None, n, "too few runs for an interval")
    most = 1 - 12 / (n * (n * n - 1))
    held = min(max(strength, -most), most)
    error = math.sqrt((1 + held * held / 2) / (n - 3))
    reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * error
    low, high = math.tanh(math.atanh(held) - reach), math.tanh(math.atanh(held) + reach)
    return Importance("rank", strength, (min(low, strength), max(high, strength)), n)


def share_importance(groups: Sequence[Hashable], results: Sequence[float]) -> Importance:
    """Give eta squared, the share of variance between groups.

    Its interval inverts the noncentral F distribution (Steiger, 2004): it takes the spread within
    groups as alike and normal. Unlike a bootstrap's it can hold 0, which eta squared, a square,
    exceeds by chance alone.
    """
    n = len(groups)
    y = np.asarray(results, dtype=np.float64)
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    parts = [y[places] for places in members.values()]
    whole = float(((y - y.mean()) ** 2).sum())
    between, within = len(parts) - 1, n - len(parts)
    if between < 1 or whole == 0:
        return Importance("share", None, None, n, "one of them is the same in every run")
    inside = math.fsum(float(((part - part.mean()) ** 2).sum()) for part in parts)
    share = 1 - inside / whole
    if within < 1:
        return Importance("share", None, None, n, "no value was tried in two runs")
    # Below this the noncentral F distribution is beyond what can be computed.
    if inside <= whole * 1e-8:
        return Importance("share", 1.0, None, n, "runs of one value came out alike")
    found = (share / between) / (inside / whole / within)
    ends = [_noncentral(found, between, within, p) for p in ((1 + CONFIDENCE) / 2, _TAIL)]
    low, high = (end / (end + n) for end in ends)
    if not (math.isfinite(low) and math.isfinite(high)):
        return Importance("share", share, None, n, "the interval is beyond what can be computed")
    return Importance("share", share, (low, max(high, share)), n)


_TAIL = (1 - CONFIDENCE) / 2


def _noncentral(found: float, between: int, within: int, below: float) -> float:
    """Find the noncentrality under which an F as small as `found` has the probability `below`.

    NaN where the distribution cannot be computed.
    """
    from scipy import optimize, stats

    def beyond(noncentrality: float) -> float:
        if noncentrality == 0:
            return float(stats.f.cdf(found, between, within)) - below
        return float(stats.ncf.cdf(found, between, within, noncentrality)) - below

    if beyond(0.0) <= 0:
        return 0.0
    most = max(10.0, 4 * found * between)
    while beyond(most) > 0:
        most *= 2
    if math.isnan(beyond(most)):
        return math.nan
    try:
        return float(optimize.brentq(beyond, 0.0, most))
    except ValueError:  # it is unknown somewhere between
        return math.nan
