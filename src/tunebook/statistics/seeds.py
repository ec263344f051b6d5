"""Results of several seeds per setting: how much is noise, and which settings differ from the best.

The noise between seeds is taken to be the same everywhere and pooled, for two or three runs tell
little of their own. Differences are Tukey's honestly significant ones, as the best was chosen after
the results were seen (Tukey 1949, Kramer 1956 for unequal numbers). Where the noise is clearly not
the same each group has its own, and differences are those of Games and Howell (1976).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunebook.records import ComparisonVerdict

CONFIDENCE = 0.95
# Spreads are called different below this share of chance by Levene's test (1960), of groups with so
# many values: two lie equally far from their mean, which leaves nothing to test against. Around
# the mean, for of three values one lies on the median itself: simulated, the test around medians
# then misses a group twenty times as noisy as seven others every time, this one in one of nine.
_UNEQUAL = 0.01
_FEWEST_VALUES = 3
# Digits of a result that a difference of rounding may change.
_ROUNDING = 1e-12

SeedTest = Literal["tukey", "games-howell", "none"]


@dataclass(frozen=True, slots=True)
class Seeded:
    """What noise says of groups; `differences` are intervals of each less the best.

    `deviation` is the pooled standard deviation between seeds, of so many `degrees` of freedom.
    Intervals of means are Student's. The best group has no verdict. `test` tells which one the
    verdicts are of: `games-howell` where spreads differ, with `p_spread` from Levene's test, None
    where it could not be made; `none` where no seed changed anything: there are no intervals,
    differences or verdicts then. Under `games-howell` groups of one value have none either.
    """

    best: str
    deviation: float
    degrees: int
    intervals: Mapping[str, tuple[float, float]]
    differences: Mapping[str, tuple[float, float]]
    verdicts: Mapping[str, ComparisonVerdict]
    test: SeedTest = "tukey"
    p_spread: float | None = None

    @property
    def words(self) -> str:
        """Say in a sentence what the noise is taken to be and whose test the verdicts are."""
        if self.test == "none":
            return (
                "no seed changed the result, so noise between seeds is not known and nothing is "
                "said of differences; does the seed change anything in these runs?"
            )
        noise = (
            f"noise between seeds: standard deviation {self.deviation:.3g}, of {self.degrees} "
            "degrees of freedom"
        )
        if self.test == "tukey":
            return (
                f"{noise}, taken to be the same everywhere; verdicts are Tukey's, over all "
                "combinations"
            )
        return (
            f"{noise} over all, but it is not the same everywhere (Levene's test, p "
            f"{self.p_spread:.2g}); intervals are from each combination's own seeds, and verdicts "
            "are Games and Howell's"
        )


def compare_seeds(groups: Mapping[str, Sequence[float]]) -> Seeded | None:
    """Compare groups with the one of the lowest mean; None where no group has two values.

    Noise is each group's own where Levene's test tells spreads apart with p below 0.01.
    """
    known = {name: list(values) for name, values in groups.items() if values}
    degrees = sum(len(values) - 1 for values in known.values())
    if degrees < 1:
        return None
    means = {name: math.fsum(values) / len(values) for name, values in known.items()}
    squares = math.fsum(
        (value - means[name]) ** 2 for name, values in known.items() for value in values
    )
    deviation = math.sqrt(squares / degrees)
    best = min(means, key=lambda name: means[name])
    if deviation <= _ROUNDING * max(abs(mean) for mean in means.values()):
        return Seeded(best, deviation, degrees, {}, {}, {}, test="none")
    p_spread = _p_spread(known)
    unequal = p_spread is not None and p_spread < _UNEQUAL
    # The best may be a group of one value, whose own noise nobody knows.
    own = unequal and len(known[best]) > 1
    noise = _own_noise(known, means) if own else dict.fromkeys(known, (deviation, degrees))
    differences, verdicts = _differences(known, means, best, noise, pooled=not own)
    return Seeded(
        best=best,
        deviation=deviation,
        degrees=degrees,
        intervals={name: _interval(means[name], len(known[name]), *noise[name]) for name in noise},
        differences=differences,
        verdicts=verdicts,
        test="games-howell" if own else "tukey",
        p_spread=p_spread,
    )


def _p_spread(known: Mapping[str, Sequence[float]]) -> float | None:
    """Give how likely so different spreads are by chance; None where that cannot be told."""
    from scipy import stats

    enough = [values for values in known.values() if len(values) >= _FEWEST_VALUES]
    # Where every value lies equally far from its mean the test divides by nothing.
    if len(enough) < 2 or all(max(values) == min(values) for values in enough):
        return None
    p = float(stats.levene(*enough, center="mean").pvalue)
    return p if math.isfinite(p) else None


def _own_noise(
    known: Mapping[str, Sequence[float]], means: Mapping[str, float]
) -> dict[str, tuple[float, int]]:
    """Give each group's own deviation and degrees of freedom, of those with two values."""
    return {
        name: (
            math.sqrt(math.fsum((v - means[name]) ** 2 for v in values) / (len(values) - 1)),
            len(values) - 1,
        )
        for name, values in known.items()
        if len(values) > 1
    }


def _interval(mean: float, n: int, deviation: float, degrees: int) -> tuple[float, float]:
    from scipy import stats

    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * deviation / math.sqrt(n)
    return mean - reach, mean + reach


def _differences(
    known: Mapping[str, Sequence[float]],
    means: Mapping[str, float],
    best: str,
    noise: Mapping[str, tuple[float, int]],
    *,
    pooled: bool,
) -> tuple[dict[str, tuple[float, float]], dict[str, ComparisonVerdict]]:
    """Hold each group with known noise against the best, over all groups.

    The studentized range of as many means as there are groups, times sqrt((v1 + v2) / 2) with v the
    square of a mean's own error. Of pooled noise its degrees are of all groups together, else of
    the pair, after Welch and Satterthwaite: (v1 + v2)^2 / (v1^2 / (n1 - 1) + v2^2 / (n2 - 1))
    (Games and Howell, Journal of Educational Statistics 1(2), 1976).
    """
    from scipy import stats

    differences: dict[str, tuple[float, float]] = {}
    verdicts: dict[str, ComparisonVerdict] = {}
    errors = {name: noise[name][0] ** 2 / len(known[name]) for name in noise}
    quantiles: dict[float, float] = {}
    for name in noise:
        both = errors[name] + errors[best]
        if name == best or both == 0:
            continue
        degrees: float = noise[name][1]
        if not pooled:
            degrees = both**2 / sum(errors[n] ** 2 / noise[n][1] for n in (name, best))
        if degrees not in quantiles:
            quantiles[degrees] = float(
                stats.studentized_range.ppf(CONFIDENCE, max(len(noise), 2), degrees)
            )
        reach = quantiles[degrees] * math.sqrt(both / 2)
        middle = means[name] - means[best]
        differences[name] = (middle - reach, middle + reach)
        verdicts[name] = "different" if middle > reach else "cannot tell"
    return differences, verdicts
