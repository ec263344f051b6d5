"""Two averages of which no items are known: what could be said if their spread were this."""

from __future__ import annotations

import math

from scipy import stats

from tunebook.errors import UsageError
from tunebook.records import Comparison
from tunebook.statistics.compare import ALPHA, DEFAULT_MARGIN, POWER, decided


def compare_averages(
    first: float,
    second: float,
    *,
    n: int,
    sd: float,
    correlation: float = 0.0,
    margin: float = DEFAULT_MARGIN,
) -> Comparison:
    """Compare the means of `n` items each, the first minus the second, assuming their spread.

    `sd` is of one item's score; `correlation` between the two scores of an item, 0 for unpaired.
    The error is sd sqrt(2 (1 - correlation) / n); t with n - 1 degrees of freedom, the fewer of
    paired and unpaired. UsageError for assumptions that no data could have.
    """
    if n < 2 or not sd > 0 or not -1 <= correlation < 1:
        raise UsageError(
            f"{n} items, an SD of {sd:g} and a correlation of {correlation:g} are no assumption to "
            "compare by; give 2 items or more, an SD above 0 and a correlation from -1 to below 1"
        )
    of_pairs = sd * math.sqrt(2 * (1 - correlation))
    error, difference = of_pairs / math.sqrt(n), first - second
    half = float(stats.t.isf(ALPHA / 2, n - 1)) * error
    found = Comparison(
        verdict="cannot tell",
        difference=difference,
        interval=(difference - half, difference + half),
        p=2 * float(stats.t.sf(abs(difference) / error, n - 1)),
        n=n,
        n_needed=None,
        detectable=float(stats.norm.isf(ALPHA / 2) + stats.norm.isf(1 - POWER)) * error,
        margin=margin,
        missing_a=0,
        missing_b=0,
        sd=of_pairs,
        p_equivalent=float(stats.t.sf((margin - abs(difference)) / error, n - 1)),
        clusters=n,
        examples_hash="",
    )
    return decided(found, found.p, looks=1)
