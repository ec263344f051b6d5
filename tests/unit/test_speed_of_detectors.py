"""Detectors have to keep up with long runs (benchmarks/faults/speed.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "faults"))

from speed import core_seconds, healthy_log

from tunebook.kinds import FAULTS
from tunebook.watch.diagnose import diagnose


def test_100000_healthy_steps_are_diagnosed_within_seconds_and_raise_no_alarm():
    log = healthy_log(100_000)
    taken = min(core_seconds(log) for _ in range(2))
    print(f"100,000 steps of 8 examples diagnosed in {taken:.2f} s (the target is 1 s)")
    assert taken < 2  # twice the target, for slow machines
    assert [verdict for verdict in diagnose(log) if verdict.kind in FAULTS] == []
