"""A wall clock that goes back by a day or on by a year, in and between the attempts of a run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_train_flow import history, start, tunebook, wait_for_step, weights, write_run

from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, create_book

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks" / "faults_io"
SHORT = {"train": {"max_steps": 12}, "evaluate": {"every": 6, "max_new_tokens": 2}}


def test_a_jump_of_the_clock_changes_nothing_of_a_run() -> None:
    """The clock as tunebook reads it, in processes that are forked: this runs everywhere."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "clocks.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert done.stdout.count(": as if it had not") == 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_a_run_that_goes_on_at_another_time_ends_as_one_whose_clock_was_right(
    tmp_path: Path, tiny_model: Path
) -> None:
    """Every clock of the process and its children is moved, also those that C code reads."""
    book = create_book(tmp_path / "book")
    whole = RunFolder(book, "whole")
    done = tunebook(book, "train", write_run(book, "whole", tiny_model, **SHORT))
    assert done.returncode == 0, done.stderr
    for number, jump in enumerate(("-1d", "+365d")):
        run = RunFolder(book, f"jumped-{number}")
        process = start(book, "train", write_run(book, run.name, tiny_model, **SHORT))
        wait_for_step(run, 3, process)
        process.kill()
        process.communicate()
        command = [sys.executable, "-m", "tunebook", "resume", run.name]
        again = subprocess.run(
            ["faketime", "-f", jump, *command],
            cwd=book, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert again.returncode == 0, again.stderr
        assert weights(run) == weights(whole)
        assert history(run) == history(whole)
        events = read_events(run)
        assert events.last_state == "finished"
        assert events.active_seconds > 0
        said = (
            tunebook(book, "show", run.name).stdout + tunebook(book, "runs").stdout + again.stdout
        )
        assert not re.search(r"(?<!\w)-\d[\d.,]* ?(ms|s|min|h|d)\b", said), said
