"""What is read out of a run whose learning rate rises at every step."""

from __future__ import annotations

import numpy as np
import pytest

from tunebook.statistics.lr_range import read_lr_range


def course(
    noise: float, fall: float = 3.0, n: int = 200, seed: int = 0
) -> tuple[list[float], list[float]]:
    """Make a loss that falls fastest at a rate of 1e-3 and rises from 1e-2 on."""
    rng = np.random.default_rng(seed)
    rates = np.geomspace(1e-6, 1, n)
    logs = np.log10(rates)
    losses = 5 - fall / (1 + np.exp(-4 * (logs + 3))) + 4 * np.maximum(0, logs + 2) ** 2
    return list(rates), list(losses + rng.normal(0, noise, n))


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_the_advice_is_where_the_loss_falls_fastest(noise: float) -> None:
    found = read_lr_range(*course(noise))
    assert found.advice is not None
    assert found.lowest is not None
    assert 6e-4 < found.advice < 1.7e-3
    assert found.advice < found.lowest < 0.02
    assert f"{found.advice:g}" in found.words


@pytest.mark.parametrize("n", [50, 100, 200])
@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_over_many_tests_the_advice_is_neither_too_high_nor_too_low(n: int, noise: float) -> None:
    told = [read_lr_range(*course(noise, n=n, seed=seed)).advice for seed in range(40)]
    known = [advice for advice in told if advice is not None]
    assert len(known) == 40
    assert np.median(known) == pytest.approx(1e-3, rel=0.25)
    # Nine of ten within a factor of two.
    low, high = np.quantile(known, [0.05, 0.95])
    assert 5e-4 < low < high < 2e-3


def test_noise_alone_seldom_gives_advice() -> None:
    flat = [np.random.default_rng(seed).normal(4, 0.2, 100) for seed in range(100)]
    told = [read_lr_range(list(np.geomspace(1e-6, 1, 100)), list(losses)) for losses in flat]
    assert sum(found.advice is not None for found in told) <= 8


def test_a_loss_that_does_not_fall_beyond_its_noise_gives_no_advice() -> None:
    found = read_lr_range(*course(0.3, fall=0.05))
    assert found.advice is None
    assert "cannot tell" in found.words


def test_few_steps_and_steps_after_a_loss_that_is_no_number_do_not_count() -> None:
    rates, losses = course(0.1)
    assert "cannot tell: 10 steps" in read_lr_range(rates[:10], losses[:10]).words
    broken = [*losses[:150], float("nan"), *losses[151:]]
    assert read_lr_range(rates, broken).advice == read_lr_range(rates[:150], losses[:150]).advice
