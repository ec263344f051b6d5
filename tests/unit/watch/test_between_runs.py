"""What may be said of two runs: several changes, arithmetic that excludes one, or only noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from made_runs import make_step
from tunebook.errors import UsageError
from tunebook.statistics.averages import compare_averages
from tunebook.watch.between import (
    Compared,
    Side,
    find_cannot_explain,
    find_confounded,
    find_noise_only,
    settings_changed,
    total_shrinkage,
)
from tunebook.watch.run_log import RunFacts, RunLog

PLAIN = {"train.learning_rate": 5e-5, "train.weight_decay": 0.1, "seed": 1}


def sides(steps: int = 5975, **now: object) -> tuple[Side, Side]:
    log = RunLog((), facts=RunFacts(total_steps=steps))
    changed = {key.replace("__", "."): value for key, value in now.items()}
    return Side("a", PLAIN, log), Side("b", {**PLAIN, **changed}, log)


def test_decay_of_a_short_run_at_a_small_rate_cannot_explain_a_difference() -> None:
    pair = sides(train__weight_decay=0.0)
    found = find_cannot_explain(*pair, settings_changed(*pair))
    assert (
        "3 %" in found["train.weight_decay"].cause or "2.94 %" in found["train.weight_decay"].cause
    )
    assert found["train.weight_decay"].evidence["a"] == pytest.approx(0.0294, abs=1e-4)
    longer = sides(steps=100_000, train__weight_decay=0.0)
    assert find_cannot_explain(*longer, settings_changed(*longer)) == {}
    unknown = sides(train__weight_decay=None)
    assert find_cannot_explain(*unknown, settings_changed(*unknown)) == {}


def test_shrinkage_follows_the_rates_that_were_logged() -> None:
    rates = np.linspace(1e-3, 0, 500)
    assert total_shrinkage(rates, 0.1) == pytest.approx(1 - np.prod(1 - rates * 0.1))
    assert str(total_shrinkage(rates, 0.0)) == "0.0"  # which is said, and -0 % reads like a mistake


def test_clipping_that_was_never_active_cannot_explain_a_difference() -> None:
    log = RunLog([make_step(n, loss=1.0) for n in range(1, 9)])  # norms of 0.5

    def pair(limit: float) -> tuple[Side, Side]:
        return Side("a", {"train.max_grad_norm": 1.0}, log), Side(
            "b", {"train.max_grad_norm": limit}, log
        )

    idle = pair(0.0)
    assert (
        "never active"
        in find_cannot_explain(*idle, settings_changed(*idle))["train.max_grad_norm"].cause
    )
    active = pair(0.4)
    assert find_cannot_explain(*active, settings_changed(*active)) == {}
    unknown = RunLog([replace(s, grad_norm=None) for s in log.steps])
    blind = replace(idle[0], log=unknown), replace(idle[1], log=unknown)
    assert find_cannot_explain(*blind, settings_changed(*blind)) == {}


def test_one_change_is_no_confusion_and_what_goes_together_is_one() -> None:
    lora = {"method": "lora", "lora.rank": 16, "lora.alpha": 16}
    wider = {"method": "lora", "lora.rank": 32, "lora.alpha": 32, "seed": 3, "name": "b"}
    pair = Side("a", lora), Side("b", wider)
    assert find_confounded(*pair, settings_changed(*pair)) is None
    scaled = Side("a", lora), Side("b", {**wider, "lora.alpha": 64})
    verdict = find_confounded(*scaled, settings_changed(*scaled))
    assert verdict is not None
    assert list(verdict.evidence) == ["lora.alpha", "lora.rank"]
    assert len(settings_changed(Side("a", {"method": "full"}), pair[1])) == 1


def test_a_suspect_is_named_with_what_else_changed_or_excluded_where_it_did_not() -> None:
    pair = sides(train__learning_rate=1e-4, train__epochs=2.0)
    changed = settings_changed(*pair)
    verdict = find_confounded(*pair, changed, "train.learning_rate")
    assert verdict is not None
    assert verdict.cause.count("train.epochs") == 1
    assert verdict.changes == ()  # what it was before is not known
    same = find_cannot_explain(*pair, changed, "train.weight_decay")
    assert "it is 0.1 in both runs" in same["train.weight_decay"].cause
    assert find_confounded(*pair, changed, "train.weight_decay") is None


def test_noise_needs_an_interval_with_zero_and_a_gap_that_seeds_could_give() -> None:
    pair = sides()
    small = Compared(50.0, 48.0, compare_averages(50, 48, n=100, sd=40))
    verdict = find_noise_only(*pair, {"judge": small})
    assert verdict is not None
    assert "no runs of other seeds" in verdict.cause
    assert find_noise_only(*pair, {}) is None
    large = Compared(70.0, 40.0, compare_averages(70, 40, n=100, sd=40))
    assert find_noise_only(*pair, {"judge": small, "loss": large}) is None
    quiet = replace(small, seed_sd=0.1, seed_degrees=8)
    assert find_noise_only(*pair, {"judge": quiet}) is None
    loud = replace(small, seed_sd=5.0, seed_degrees=8)
    assert "seeds alone go" in getattr(find_noise_only(*pair, {"judge": loud}), "cause", "")


def test_averages_are_compared_as_the_t_test_of_such_items_would() -> None:
    n, sd = 100, 40.0
    found = compare_averages(51.80, 32.55, n=n, sd=sd)
    p = stats.ttest_ind_from_stats(51.80, sd, n, 32.55, sd, n).pvalue
    assert found.p == pytest.approx(p, rel=0.25)
    assert found.p is not None
    assert found.p > p  # fewer degrees of freedom: the careful side
    assert found.verdict == "different"
    paired = compare_averages(30.0, 25.0, n=n, sd=sd, correlation=0.5)
    loose = compare_averages(30.0, 25.0, n=n, sd=sd)
    assert paired.n_needed is not None
    assert loose.n_needed is not None
    assert paired.n_needed == pytest.approx(loose.n_needed / 2, abs=1)
    # So many questions do decide, in four of five cases.
    power = stats.norm.sf(1.96 - 5.0 / (sd * np.sqrt(2 / loose.n_needed)))
    assert power == pytest.approx(0.8, abs=0.01)
    with pytest.raises(UsageError, match="no assumption"):
        compare_averages(1, 2, n=1, sd=40)
