"""Results of several seeds per setting: how much is noise, and which settings differ from the best.

The noise between seeds is taken to be the same everywhere and pooled, for two or three runs tell
little of their own. Differences are Tukey's honestly significant ones, as the best was chosen after
the results were seen (Tukey 1949, Kramer 1956 for unequal numbers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunebook.records import ComparisonVerdict

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Seeded:
    """What pooled noise says of groups; `differences` are intervals of each less the best.

    `deviation` is the standard deviation between seeds, of so many `degrees` of freedom. Intervals
    of means are Student's. The best group has no verdict.
    """

    best: str
    deviation: float
    degrees: int
    intervals: Mapping[str, tuple[float, float]]
    differences: Mapping[str, tuple[float, float]]
    verdicts: Mapping[str, ComparisonVerdict]


def compare_seeds(groups: Mapping[str, Sequence[float]]) -> Seeded | None:
    """Compare groups with the one of the lowest mean; None where no group has two values."""
    from scipy import stats

    known = {name: list(values) for name, values in groups.items() if values}
    degrees = sum(len(values) - 1 for values in known.values())
    if degrees < 1:
        return None
    means = {name: math.fsum(values) / len(values) for name, values in known.items()}
    squares = math.fsum(
        (value - means[name]) ** 2 for name, values in known.items() for value in values
    )
    deviation = math.sqrt(squares / degrees)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * deviation
    best = min(means, key=lambda name: means[name])
    q = float(stats.studentized_range.ppf(CONFIDENCE, max(len(known), 2), degrees))
    differences: dict[str, tuple[float, float]] = {}
    verdicts: dict[str, ComparisonVerdict] = {}
    for name, values in known.items():
        if name == best:
            continue
        error = deviation * math.sqrt((1 / len(values) + 1 / len(known[best])) / 2)
        low, high = (means[name] - means[best] + side * q * error for side in (-1, 1))
        differences[name] = (low, high)
        verdicts[name] = "different" if low > 0 else "cannot tell"
    return Seeded(
        best=best,
        deviation=deviation,
        degrees=degrees,
        intervals={
            name: (means[name] - reach / math.sqrt(n), means[name] + reach / math.sqrt(n))
            for name, n in ((name, len(values)) for name, values in known.items())
        },
        differences=differences,
        verdicts=verdicts,
    )
