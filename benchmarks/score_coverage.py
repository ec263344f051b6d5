"""How often `compare` is wrong and how often an Elo interval covers, by simulation.

    python benchmarks/score_coverage.py --count 4000

The sign-flip test of a fixed seed flips the same signs for every comparison of n items. They are
taken from scipy once and applied to all simulated comparisons in one product; `--check` of them
go through `compare` itself, which must say the same p.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from tunebook.records import ItemScore
from tunebook.statistics.compare import compare
from tunebook.statistics.elo import Game, elo_estimate
from tunebook.statistics.estimate import RESAMPLES, bootstrap_interval

Draw = Callable[[np.random.Generator, tuple[int, int], float], np.ndarray]
DETECTABLE = stats.norm.isf(0.025) + stats.norm.isf(0.2)


def _normal(draw, shape, shift):
    return draw.normal(shift, math.sqrt(2), shape)


def _skewed(draw, shape, shift):
    """Differences of two bounded scores that pile up near 100."""
    return draw.beta(4, 1, shape) - draw.beta(4, 1, shape) + shift


def _heavy(draw, shape, shift):
    return draw.standard_t(3, shape) - draw.standard_t(3, shape) + shift


def _lopsided(draw, shape, shift):
    """Not symmetric, so that flipping signs is not exact: what two unlike models may give."""
    return draw.exponential(1, shape) - 1 + shift


def _two_point(draw, shape, shift):
    """Right or wrong, of questions that are hard or easy; the shift lifts the chance of right."""
    hard = np.where(draw.random(shape) < 0.5, 0.25, 0.55)
    return (draw.random(shape) < hard + shift).astype(float) - (draw.random(shape) < hard)


@dataclass(frozen=True)
class Kind:
    draw: Draw
    sd: float


KINDS = {
    "normal": Kind(_normal, math.sqrt(2)),
    "bounded, piled up": Kind(_skewed, math.sqrt(2 * 4 / (25 * 6))),
    "heavy-tailed (t, 3 degrees)": Kind(_heavy, math.sqrt(6)),
    "two-point (right or wrong)": Kind(_two_point, math.sqrt(0.25 * 0.75 + 0.55 * 0.45)),
    "lopsided (exponential)": Kind(_lopsided, 1.0),
}


def detectable_shift(name: str, n: int) -> float:
    """Give the difference that `compare` would call detectable, were the SD known."""
    if not name.startswith("two-point"):
        return DETECTABLE * KINDS[name].sd / math.sqrt(n)

    def spread(shift: float) -> float:
        parts = [p * (1 - p) for hard in (0.25, 0.55) for p in (hard, hard + shift)]
        return math.sqrt(sum(parts) / 2)

    return optimize.brentq(lambda s: s - DETECTABLE * spread(s) / math.sqrt(n), 0, 0.45)


def signs_of(n: int, seed: int = 0) -> np.ndarray:
    """Take the signs that scipy flips for n items, as `compare` has it do: (10,000, n)."""
    seen: list[np.ndarray] = []

    def watch(s: np.ndarray, axis: int) -> np.ndarray:
        if s.ndim > 1:
            seen.append(s.copy())
        return s.sum(axis=axis)

    stats.permutation_test(
        (np.ones(n),),
        watch,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 1_000_000 // n),
        rng=np.random.default_rng(seed),
    )
    return np.concatenate(seen)[-RESAMPLES:]


def flip_p(d: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Give the two-sided p of each row of d, as scipy's permutation_test does."""
    observed = d.sum(axis=1)
    null = d @ signs.T
    slack = np.abs(1e-14 * 100 * observed)[:, None]
    less = (null <= observed[:, None] + slack).sum(axis=1)
    more = (null >= observed[:, None] - slack).sum(axis=1)
    return np.minimum(1, 2 * (np.minimum(less, more) + 1) / (len(signs) + 1))


def compared(d: np.ndarray, margin: float = 0.0):
    """Send one simulated comparison through the whole of `compare`."""
    a = [ItemScore(str(i), "h", "a", float(v)) for i, v in enumerate(d)]
    b = [ItemScore(str(i), "h", "b", 0.0) for i in range(len(d))]
    return compare(a, b, margin=margin)


def said_different(name: str, n: int, shift: float, count: int, seed: int, check: int = 5) -> float:
    """Give the share of simulated comparisons that are called different."""
    d = KINDS[name].draw(np.random.default_rng(seed), (count, n), shift)
    signs = signs_of(n)
    p = np.concatenate([flip_p(part, signs) for part in np.array_split(d, max(1, count // 200))])
    for row, own in zip(d[:check], p[:check], strict=True):
        assert math.isclose(compared(row).p, own), (name, n, compared(row).p, own)
    return float((p < 0.05).mean())


def said_equivalent(name: str, n: int, count: int, seed: int, check: int = 5) -> float:
    """Give the share called equivalent where the true difference is exactly the margin."""
    margin = 2 * DETECTABLE * KINDS[name].sd / math.sqrt(n)
    d = KINDS[name].draw(np.random.default_rng(seed), (count, n), 0.0) + margin
    error = stats.sem(d, axis=1)
    p = stats.t.sf((margin - np.abs(d.mean(axis=1))) / error, n - 1)
    for row, own in zip(d[:check], p[:check], strict=True):
        assert math.isclose(compared(row, margin).p_equivalent, own), (name, n, own)
    return float((p < 0.05).mean())


def interval_covers(name: str, n: int, count: int, seed: int) -> float:
    """Give the share of BCa intervals that hold the true difference of 0."""
    d = KINDS[name].draw(np.random.default_rng(seed), (count, n), 0.0)
    found = (bootstrap_interval(row, np.ones(n), 0) for row in d)
    return float(np.mean([low <= 0 <= high for low, high in found]))


def tournament(draw: np.random.Generator, elo: float, games: int, draws: float) -> list[Game]:
    """Play an opening with both colours against each of four opponents, over and over.

    White is worth 35 Elo, an opening up to 100 more to one side; `draws` is the share of drawn
    games between equals. The two games of an opening are one cluster.
    """
    played = []
    for number in range(games // 2):
        against = (1320, 1520, 1720, 1920)[number % 4]
        edge = 35 + draw.normal(0, 50)
        for colour in (1, -1):
            expected = 1 / (1 + 10 ** ((against - elo - colour * edge) / 400))
            drawn = draws * 4 * expected * (1 - expected)
            luck = draw.random()
            score = 0.5 if luck < drawn else float(luck < drawn / 2 + expected)
            played.append(
                Game(f"{number}{colour}", f"at {against}", against, score, cluster=f"o{number}")
            )
    return played


def elo_covers(elo: float, games: int, draws: float, count: int, seed: int) -> dict[str, float]:
    """Give the share of intervals that hold the true Elo, of bounds alone, and of bad fits."""
    draw = np.random.default_rng(seed)
    holds = bounds = misfits = 0
    for _ in range(count):
        found = elo_estimate(tournament(draw, elo, games, draws))
        low, high = found.interval
        holds += (low is None or low <= elo) and (high is None or elo <= high)
        bounds += found.elo is None
        misfits += found.fit_p is not None and found.fit_p < 0.05
    return {"covers": holds / count, "bound": bounds / count, "misfit": misfits / count}


ELO_CASES = [
    (1600, 100, 0.3),
    (1600, 400, 0.3),
    (1600, 100, 0.0),
    (1300, 200, 0.3),
    (1000, 200, 0.3),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--check", type=int, default=20)
    parser.add_argument("--intervals", type=int, default=1000)
    asked = parser.parse_args()
    print("| differences | n | false different | power | false equivalent | interval holds |")
    print("|---|---|---|---|---|---|")
    for name in KINDS:
        for n in (30, 110):
            shift = detectable_shift(name, n)
            false = said_different(name, n, 0.0, asked.count, 1, asked.check)
            power = said_different(name, n, shift, asked.count, 2, asked.check)
            alike = said_equivalent(name, n, asked.count, 5, asked.check)
            holds = interval_covers(name, n, asked.intervals, 3)
            shares = " | ".join(f"{share:.1%}" for share in (false, power, alike, holds))
            print(f"| {name} | {n} | {shares} |", flush=True)
    print("\n| Elo | games | draws between equals | interval holds | bound only | fit p < .05 |")
    print("|---|---|---|---|---|---|")
    for elo, games, draws in ELO_CASES:
        found = elo_covers(elo, games, draws, asked.count, 4)
        shown = " | ".join(f"{found[key]:.1%}" for key in ("covers", "bound", "misfit"))
        print(f"| {elo} | {games} | {draws:.0%} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
