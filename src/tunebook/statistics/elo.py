"""A chess player's Elo from games against opponents of known ratings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from tunebook.errors import UsageError
from tunebook.statistics.compare import holm
from tunebook.statistics.estimate import CONFIDENCE
from tunebook.statistics.items import Array

_PER_ELO = math.log(10) / 400
_FAR = 4000.0  # Elo below or above all opponents: a chance of winning of 1e-10


@dataclass(frozen=True, slots=True)
class Game:
    """One game as the player saw it: 1 won, 1/2 drawn, 0 lost.

    Games of one `cluster` (an opening played with both colours) count as one; empty, alone.
    """

    game_id: str
    opponent: str
    opponent_elo: float
    score: float
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class OpponentFit:
    """What one opponent's games gave against what the fitted Elo expects; `p` adjusted by Holm."""

    opponent: str
    opponent_elo: float
    n: int
    score: float
    expected: float
    p: float | None


@dataclass(frozen=True, slots=True)
class EloEstimate:
    """Elo with its interval; a limit alone (`above` or `below`) when all games were won or lost.

    `fit_p` is the p-value that the opponents' ratings, as given, explain the results: below .05
    the Elo means little. None against a single opponent.
    """

    elo: float | None
    interval: tuple[float | None, float | None]
    error: float | None
    n: int
    score: float
    fit_p: float | None
    fits: tuple[OpponentFit, ...]


def elo_estimate(games: Sequence[Game]) -> EloEstimate:
    """Fit Elo by maximum likelihood to all games, a draw counting one half.

    Expected score 1 / (1 + 10^((opponent - player) / 400)). `error` is the sandwich estimator over
    clusters; the interval is where the log-likelihood falls off by the t quantile squared over 2,
    scaled by the same dispersion: draws make results less, openings more alike than coin flips.
    Both count one more game, decided as the fit expects, for what so few games have not shown.
    When all are lost (won), the limit at which that would happen in 5 % of cases. UsageError for no
    game or a score that is not 0, 1/2 or 1.
    """
    if not games:
        raise UsageError("there is no game to estimate an Elo from")
    for game in games:
        if game.score not in (0, 0.5, 1) or not math.isfinite(game.opponent_elo):
            raise UsageError(
                f"game {game.game_id} scores {game.score:g} against {game.opponent_elo:g}; a score "
                "is 0, 0.5 or 1 and a rating a number"
            )
    scores = np.array([game.score for game in games], float)
    against = np.array([game.opponent_elo for game in games], float)
    bracket = float(against.min()) - _FAR, float(against.max()) + _FAR
    if scores.min() == scores.max() and scores[0] != 0.5:
        limit = _limit(scores, against, bracket)
        interval = (None, limit) if scores[0] == 0 else (limit, None)
        return EloEstimate(None, interval, None, len(games), float(scores[0]), None, ())
    elo = float(optimize.brentq(lambda at: (scores - _expected(at, against)).sum(), *bracket))
    expected = _expected(elo, against)
    information = float((expected * (1 - expected)).sum())
    residuals = _cluster_residuals(games, scores - expected)
    n_clusters = len(residuals)
    if n_clusters < 2:
        return EloEstimate(elo, (None, None), None, len(games), float(scores.mean()), None, ())
    # One more game that is decided, against the opponent who tells most: a handful of draws has no
    # spread of its own, and would otherwise fix an Elo to the fraction of a point.
    unseen = float((expected * (1 - expected)).max())
    spread = (float((residuals**2).sum()) + unseen) * n_clusters / (n_clusters - 1)
    dispersion = spread / information
    fits, fit_p = _fits(games, scores, expected, dispersion)
    return EloEstimate(
        elo=elo,
        interval=_profile(scores, against, elo, dispersion, _freedom(residuals), bracket),
        error=math.sqrt(spread) / information / _PER_ELO,
        n=len(games),
        score=float(scores.mean()),
        fit_p=fit_p,
        fits=fits,
    )


def _expected(elo: float, against: Array) -> Array:
    out: Array = special.expit(_PER_ELO * (elo - against))
    return out


def _log_likelihood(elo: float, scores: Array, against: Array) -> float:
    edge = _PER_ELO * (elo - against)
    return float((scores * special.log_expit(edge) + (1 - scores) * special.log_expit(-edge)).sum())


def _limit(scores: Array, against: Array, bracket: tuple[float, float]) -> float:
    """Give the Elo at which results all of one kind have a chance of 5 %."""
    return float(
        optimize.brentq(
            lambda at: _log_likelihood(at, scores, against) - math.log(1 - CONFIDENCE), *bracket
        )
    )


def _profile(
    scores: Array,
    against: Array,
    elo: float,
    dispersion: float,
    freedom: float,
    bracket: tuple[float, float],
) -> tuple[float | None, float | None]:
    if dispersion == 0:  # nothing but draws with one opponent: no spread to estimate from
        return None, None
    quantile = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))
    floor = _log_likelihood(elo, scores, against) - dispersion * quantile**2 / 2

    def above(at: float) -> float:
        return _log_likelihood(at, scores, against) - floor

    low, high = bracket
    return (
        float(optimize.brentq(above, low, elo)) if above(low) < 0 else None,
        float(optimize.brentq(above, elo, high)) if above(high) < 0 else None,
    )


def _freedom(residuals: Array) -> float:
    """Give the degrees of freedom of the sum of squared residuals, by its own spread.

    C - 1 for residuals like normal ones; fewer where a few points among many lost games make most
    of it (Satterthwaite's approximation).
    """
    squares = residuals**2
    spread = len(squares) * float(squares.var())
    most = len(squares) - 1
    return min(most, 2 * float(squares.sum()) ** 2 / spread) if spread > 0 else most


def _cluster_residuals(games: Iterable[Game], residuals: Array) -> Array:
    sums: dict[tuple[str, str], float] = {}
    for game, residual in zip(games, residuals.tolist(), strict=True):
        key = (game.cluster, "") if game.cluster else ("", game.game_id)
        sums[key] = sums.get(key, 0.0) + residual
    return np.array(list(sums.values()))


def _fits(
    games: Sequence[Game], scores: Array, expected: Array, dispersion: float
) -> tuple[tuple[OpponentFit, ...], float | None]:
    """Hold each opponent's results against the fit; Pearson's statistic over them for all.

    The residual of one opponent has the variance v (1 - v / sum v) of its own, for the fit takes
    part of it along; the sum of squares has one degree of freedom less than there are opponents.
    """
    names = list(dict.fromkeys((game.opponent, game.opponent_elo) for game in games))
    codes = np.array([names.index((game.opponent, game.opponent_elo)) for game in games])
    n, observed, wanted, variance = (
        np.bincount(codes, part, len(names)).astype(np.float64)
        for part in (np.ones(len(games)), scores, expected, expected * (1 - expected))
    )
    alone = len(names) < 2 or dispersion == 0
    varied = variance * (dispersion or 1)
    share = 1 - varied / varied.sum()
    z = (observed - wanted) / np.sqrt(varied * np.where(share > 0, share, 1))
    ps = [None] * len(names) if alone else holm((2 * stats.norm.sf(np.abs(z))).tolist())
    whole = ((observed - wanted) ** 2 / varied).sum()
    fits = tuple(
        OpponentFit(*name, int(k), float(o / k), float(w / k), p)
        for name, k, o, w, p in zip(names, n, observed, wanted, ps, strict=True)
    )
    return fits, None if alone else float(stats.chi2.sf(whole, len(names) - 1))
