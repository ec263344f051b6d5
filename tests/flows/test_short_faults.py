"""The short form of every fault script in benchmarks/faults_io, against the real commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks" / "faults_io"


def run_script(name: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / name), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


def count(said: str, what: str) -> int:
    return sum(int(n) for n in re.findall(rf"^ *(\d+)  {what}", said, re.MULTILINE))


def test_kills_damage_and_a_full_disk_lose_nothing() -> None:
    said = run_script("short.py", "--count", "3", "--seed", "11")
    assert count(said, "kills of the (?:launcher|training process)") == 3
    assert count(said, "runs done, weights and history bit-identical") >= 1
    assert count(said, "damaged files named") == 60
    assert count(said, "resumed from a damaged checkpoint") == 2
    assert count(said, "killed at a call of a save") == 3
    assert count(said, "signals") == 4
    if "no tmpfs can be mounted here" not in said:
        assert count(said, "disks filled") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kills.py", ("--count", "60")),
        ("kill_points.py", ("--by", "hook", "--count", "40")),
        ("damage.py", ("--count", "1200", "--resumes", "10")),
        ("full_disk.py", ("--count", "12")),
    ],
)
def test_faults_by_the_dozen_lose_nothing(name: str, options: tuple[str, ...]) -> None:
    assert "count" in run_script(name, "--seed", "12", *options)


@pytest.mark.slow
def test_a_long_run_takes_no_more_memory() -> None:
    said = run_script("long_run.py", "--count", "2000")
    assert "memory grew by" in said


@pytest.mark.slow
def test_many_runs_in_one_book_take_no_more_memory() -> None:
    said = run_script("many_runs.py", "--count", "30")
    assert "the server's memory grew by" in said
