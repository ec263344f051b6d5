"""What is read out of a run whose learning rate rises at every step."""

from __future__ import annotations

import numpy as np
import pytest

from tunebook.statistics.lr_range import read_lr_range


def course(noise: float, fall: float = 3.0) -> tuple[list[float], list[float]]:
    """Make a loss that falls around a rate of 1e-3 and rises from 1e-2 on."""
    rng = np.random.default_rng(0)
    rates = np.geomspace(1e-6, 1, 200)
    logs = np.log10(rates)
    losses = 5 - fall / (1 + np.exp(-4 * (logs + 3))) + 4 * np.maximum(0, logs + 2) ** 2
    return list(rates), list(losses + rng.normal(0, noise, 200))


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_the_advice_is_where_the_loss_falls_fastest(noise: float) -> None:
    found = read_lr_range(*course(noise))
    assert found.advice is not None
    assert found.lowest is not None
    assert 4e-4 < found.advice < 6e-3
    assert found.advice < found.lowest < 0.1
    assert f"{found.advice:g}" in found.words


def test_a_loss_that_does_not_fall_beyond_its_noise_gives_no_advice() -> None:
    found = read_lr_range(*course(0.3, fall=0.05))
    assert found.advice is None
    assert "cannot tell" in found.words


def test_few_steps_and_steps_after_a_loss_that_is_no_number_do_not_count() -> None:
    rates, losses = course(0.1)
    assert "cannot tell: 10 steps" in read_lr_range(rates[:10], losses[:10]).words
    broken = [*losses[:150], float("nan"), *losses[151:]]
    assert read_lr_range(rates, broken).advice == read_lr_range(rates[:150], losses[:150]).advice
