"""Fewer points, and no spike lost."""

from __future__ import annotations

import numpy as np
import pytest

from tunebook.pages.downsample import chosen_points


@pytest.mark.parametrize("spike", [0, 1, 777, 12_345, 19_999])
def test_a_spike_of_one_step_is_kept_wherever_it_is(spike: int) -> None:
    y = np.linspace(3.0, 2.0, 20_000)
    y[spike] = 9.0
    chosen = chosen_points(y, 300)
    assert len(chosen) <= 602
    assert spike in chosen
    assert {0, 19_999} <= set(chosen.tolist())
    assert (np.diff(chosen) > 0).all()


def test_a_short_curve_stays_whole_and_holes_are_left_out() -> None:
    y = np.array([1.0, np.nan, 2.0, np.inf, 3.0])
    assert chosen_points(y, 10).tolist() == [0, 2, 4]
    assert chosen_points(np.array([]), 10).tolist() == []


def test_the_lowest_of_every_bucket_is_kept_too() -> None:
    y = np.ones(1001)
    y[500] = -4.0
    assert 500 in chosen_points(y, 7)
