"""How long it goes well, against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.duration.survfunc import SurvfuncRight

from tunebook.errors import UsageError
from tunebook.statistics.survival import survival


def test_survival_is_kaplan_meiers_and_an_unfinished_game_is_no_failure() -> None:
    draw = np.random.default_rng(0)
    times = draw.integers(1, 60, 80).astype(float)
    failed = draw.random(80) < 0.6
    found = survival(times.tolist(), failed.tolist())
    expected = SurvfuncRight(times, failed)
    at = dict(zip(found.times, found.surviving, strict=True))
    assert [at[t] for t in expected.surv_times] == pytest.approx(expected.surv_prob)
    assert found.median == expected.quantile(0.5)
    assert (found.n, found.failed) == (80, failed.sum())
    first = 0
    assert found.low[first] < found.surviving[first] < found.high[first]


def test_without_a_failure_there_is_no_median() -> None:
    found = survival([40.0, 60.0], [False, False])
    assert (found.median, set(found.surviving), found.failed) == (None, {1.0}, 0)


def test_times_and_outcomes_go_together() -> None:
    with pytest.raises(UsageError, match="2 times and 1 outcomes"):
        survival([1.0, 2.0], [True])
