"""Elo from games, against a generalized linear model, and what it says when it cannot know."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from tunebook.errors import UsageError
from tunebook.statistics.elo import Game, elo_estimate

PER_ELO = math.log(10) / 400


def played(elo: float, games: int, ratings=(1320, 1520, 1720), seed: int = 0, draws: float = 0.3):
    draw = np.random.default_rng(seed)
    found = []
    for i in range(games):
        against = ratings[i % len(ratings)]
        expected = 1 / (1 + 10 ** ((against - elo) / 400))
        drawn, luck = draws * 4 * expected * (1 - expected), draw.random()
        score = 0.5 if luck < drawn else float(luck < drawn / 2 + expected)
        found.append(Game(str(i), f"at {against}", against, score, cluster=f"o{i // 2}"))
    return found


def test_elo_and_its_robust_error_are_those_of_a_logistic_regression() -> None:
    games = played(1500, 120)
    found = elo_estimate(games)
    scores = np.array([g.score for g in games])
    offset = -PER_ELO * np.array([g.opponent_elo for g in games])
    model = sm.GLM(scores, np.ones((120, 1)), family=sm.families.Binomial(), offset=offset)
    groups = np.array([int(g.cluster[1:]) for g in games])
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": groups, "df_correction": False})
    assert found.elo == pytest.approx(fitted.params[0] / PER_ELO, abs=1e-4)
    # The estimator's own spread, and that of one more game beside the 60 pairs.
    expected = fitted.fittedvalues
    one_more = (expected * (1 - expected)).max() * 60 / 59
    information = (expected * (1 - expected)).sum()
    error = math.sqrt(fitted.bse[0] ** 2 + one_more / information**2) / PER_ELO
    assert found.error == pytest.approx(error, rel=1e-4)
    low, high = found.interval
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 59) * found.error, rel=0.02)


def test_without_draws_or_clusters_the_interval_is_near_the_plain_profile() -> None:
    games = [
        Game(g.game_id, g.opponent, g.opponent_elo, g.score) for g in played(1500, 300, draws=0)
    ]
    found = elo_estimate(games)
    against = np.array([g.opponent_elo for g in games])
    edge = PER_ELO * (found.elo - against)
    p = 1 / (1 + np.exp(-edge))
    plain = 1.96 / math.sqrt((p * (1 - p)).sum()) / PER_ELO
    assert found.interval[1] - found.elo == pytest.approx(plain, rel=0.1)


def test_the_interval_is_lopsided_where_nearly_all_is_lost() -> None:
    games = [Game(str(i), "x", 1320, 0.5 if i < 3 else 0.0) for i in range(60)]
    found = elo_estimate(games)
    low, high = found.interval
    assert found.elo - low > 1.2 * (high - found.elo)


@pytest.mark.parametrize(("score", "side"), [(0.0, 1), (1.0, 0)])
def test_all_lost_or_won_gives_a_bound_alone(score: float, side: int) -> None:
    found = elo_estimate([Game(str(i), "x", 1320, score) for i in range(50)])
    assert (found.elo, found.error, found.interval[1 - side]) == (None, None, None)
    bound = found.interval[side]
    p = 1 / (1 + 10 ** ((1320 - bound) / 400))
    assert (p if score else 1 - p) ** 50 == pytest.approx(0.05)


def test_wrong_ratings_are_told_from_right_ones() -> None:
    games = played(1500, 300)
    assert elo_estimate(games).fit_p > 0.05
    wrong = [
        Game(g.game_id, g.opponent, g.opponent_elo + 200 * (g.opponent_elo == 1720), g.score)
        for g in games
    ]
    found = elo_estimate(wrong)
    assert found.fit_p < 0.001
    worst = max(found.fits, key=lambda fit: fit.score - fit.expected)
    assert (worst.opponent, worst.opponent_elo, worst.n, worst.p < 0.01) == (
        "at 1720", 1920, 100, True,
    )  # fmt: skip


def test_a_few_draws_do_not_fix_an_elo_to_the_fraction_of_a_point() -> None:
    # Three draws with one opponent, and three games lost against one far above: no result varies.
    games = [Game(f"lost-{i}", "far", 1350, 0.0) for i in range(3)]
    games += [Game(f"drawn-{i}", "near", -364.4, 0.5) for i in range(3)]
    found = elo_estimate(games)
    low, high = found.interval
    assert low < -600 < -100 < high
    assert found.fit_p > 0.5
    alone = elo_estimate(games[3:])
    assert alone.interval[1] - alone.interval[0] > 1000
    # A hundred draws are evidence.
    many = elo_estimate([Game(str(i), "near", 0, 0.5) for i in range(100)])
    assert -20 < many.interval[0] < many.interval[1] < 20


def test_a_single_opponent_has_nothing_to_be_held_against() -> None:
    found = elo_estimate(played(1500, 40, ratings=(1520,)))
    assert (found.fit_p, [fit.p for fit in found.fits]) == (None, [None])


def test_a_score_that_no_game_has_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"game g7 scores 0\.3"):
        elo_estimate([Game("g7", "x", 1320, 0.3)])
    with pytest.raises(UsageError, match="no game"):
        elo_estimate([])
