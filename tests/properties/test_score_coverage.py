"""How often a comparison is wrong and an Elo interval covers; `benchmarks/score_coverage.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "score_coverage.py"


@pytest.fixture(scope="module")
def simulated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_coverage", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["score_coverage"] = module  # its dataclasses look themselves up by name
    spec.loader.exec_module(module)
    return module


CONTINUOUS = ("normal", "bounded, piled up")
OTHERS = ("heavy-tailed (t, 3 degrees)", "two-point (right or wrong)")


@pytest.mark.parametrize("kind", [*CONTINUOUS, *OTHERS])
def test_what_is_not_there_is_rarely_called_different(simulated, kind: str) -> None:
    assert simulated.said_different(kind, 30, 0.0, 400, seed=1, check=2) < 0.08


def test_the_detectable_difference_is_found_four_times_in_five(simulated) -> None:
    shift = simulated.detectable_shift("normal", 30)
    assert simulated.said_different("normal", 30, shift, 400, seed=2, check=2) > 0.72


def test_elo_intervals_cover(simulated) -> None:
    assert simulated.elo_covers(1600, 100, 0.3, 150, seed=4)["covers"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 110])
@pytest.mark.parametrize("kind", [*CONTINUOUS, *OTHERS])
def test_at_full_size_false_differences_keep_to_their_share(simulated, kind: str, n: int) -> None:
    share = simulated.said_different(kind, n, 0.0, 4000, seed=1, check=20)
    assert (0.04 if kind in CONTINUOUS else 0) <= share <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 110])
def test_at_full_size_power_is_as_stated(simulated, n: int) -> None:
    shift = simulated.detectable_shift("normal", n)
    share = simulated.said_different("normal", n, shift, 4000, seed=2, check=20)
    assert share == pytest.approx(0.80, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("games", [100, 400])
def test_at_full_size_elo_intervals_cover_the_truth(simulated, games: int) -> None:
    found = simulated.elo_covers(1600, games, 0.3, 4000, seed=4)
    assert found["covers"] == pytest.approx(0.95, abs=0.01)
