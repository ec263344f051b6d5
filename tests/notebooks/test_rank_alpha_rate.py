"""Notebook 002 tried rank, alpha and rate one by one in nine runs: here it is one sweep file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tunebook.book.sweeps import SweepFolder, read_trials
from tunebook.recipe.load import load_run_file
from tunebook.recipe.sweep import load_sweep

TWIN = Path(__file__).parents[2] / "src/tunebook/embedded/recipes/alpaca/twin"
FILE = TWIN / "rank-alpha-rate.yaml"


def test_the_grid_is_a_file_of_under_twenty_lines() -> None:
    sweep, written = load_sweep(FILE)
    assert len(written.splitlines()) < 20
    assert len(sweep.grid()) == 27


def test_the_sweep_has_its_rows_wherever_the_twin_is_copied(tmp_path: Path) -> None:
    copied = shutil.copytree(TWIN, tmp_path / "copied")
    recipe = load_run_file(copied / "lora.yaml").recipe
    assert Path(recipe.data[0].path) == copied / "data/demo-instructions.json"
    rows = json.loads(Path(recipe.data[0].path).read_text(encoding="utf-8"))
    demo = TWIN.parents[2] / "data/instructions.json"
    assert rows == json.loads(demo.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_table_of_the_grid_comes_out(book: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tunebook", "sweep", FILE, "--workers", "2"],
        cwd=book,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(read_trials(SweepFolder(book, "rank-alpha-rate"))) == 27
    table = (book / "sweeps/rank-alpha-rate/result.md").read_text(encoding="utf-8")
    assert sum(line.startswith("| rank-alpha-rate-") for line in table.splitlines()) == 27
    assert "train.learning_rate: a higher train.learning_rate goes with a lower val_loss" in table
    # alpha sets how far an update goes, whatever the rank: that is what the notebook could not see.
    assert "lora.rank: cannot tell" in table
    assert (book / "sweeps/rank-alpha-rate/best.yaml").is_file()
