"""A few dozen cases of each script of benchmarks/fuzz; `make soak` runs thousands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "benchmarks" / "fuzz"


def run_script(name: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize(
    ("script", "count"),
    [("run_files", 150), ("data_rows", 150), ("imports", 30), ("book_files", 20), ("stored", 60)],
)
def test_what_is_broken_ends_in_one_sentence(script: str, count: int) -> None:
    assert f"{count} cases, 0 crashes" in run_script(script, "--count", str(count), "--seed", "11")


@pytest.mark.slow
def test_a_wrong_encoding_or_container_gets_the_right_word() -> None:
    assert "0 failed" in run_script("containers")


@pytest.mark.slow
def test_odd_names_and_links_tell_and_harm_nothing() -> None:
    assert "0 failed" in run_script("paths")


@pytest.mark.slow
def test_nothing_that_comes_with_a_model_is_executed() -> None:
    assert "0 failed" in run_script("zoo", "--count", "12")
