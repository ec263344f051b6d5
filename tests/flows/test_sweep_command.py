"""A sweep from the command line: trials that share a machine, one of them killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_train_flow import start, tunebook, write_run

from tunebook.book.events import read_events
from tunebook.book.liveness import current_state, trainer_here
from tunebook.book.places import RunFolder
from tunebook.book.sweeps import SweepFolder, read_trials

OVER = {"train.learning_rate": [1e-3, 1e-5]}


def write_sweep(book: Path, model: Path, **changes: Any) -> Path:
    write_run(book, "base", model, notebook={"hypothesis": None, "predict": []})
    values = {"name": "rates", "run": "base.yaml", "over": OVER, **changes}
    path = book / "sweep.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def kill_one(book: Path, name: str, process: Any, step: int = 4) -> None:
    """Kill a trial's own process once it has trained a little; the trainer dies with it."""
    run, until = RunFolder(book, name), time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        trainer = trainer_here(run) if run.exists() else None
        if trainer is not None and len(read_events(run).steps) >= step:
            os.kill(psutil.Process(trainer).ppid(), signal.SIGKILL)
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1] if process.poll() is not None else "no step")


def steps_taken(book: Path, name: str) -> list[int]:
    return [record.step for record in read_events(RunFolder(book, name)).steps]


def check_whole(book: Path, n: int) -> None:
    """Hold that all trials ended, each trained its steps once, and none was begun twice."""
    trials = read_trials(SweepFolder(book, "rates"))
    assert len(trials) == n
    assert Counter(trial.name for trial in trials).most_common(1)[0][1] == 1
    for trial in trials:
        assert current_state(trial.run(book)) == "finished"
        assert steps_taken(book, trial.name) == list(range(1, 31))


def test_trials_share_the_machine_and_a_killed_one_goes_on(book: Path, tiny_model: Path) -> None:
    path = write_sweep(book, tiny_model)
    planned = tunebook(book, "sweep", path, "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "2 trials (grid) on cpu" in planned.stdout
    assert "time: about" in planned.stdout
    assert not (book / "sweeps").exists()

    process = start(book, "sweep", path, "--workers", "2")
    kill_one(book, "rates-001", process)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "rates-001 was killed and goes on" in err
    check_whole(book, 2)
    attempts = {s["attempt"] for s in read_events(RunFolder(book, "rates-001")).states}
    assert len(attempts) == 2

    lines = out.splitlines()
    assert lines[0].split()[:2] == ["train.learning_rate", "val_loss"]
    assert lines[1].startswith("rates-001")
    assert "best" in lines[1]
    assert "different" in lines[2]
    assert "another seed may order them otherwise" in out
    table = (book / "sweeps/rates/result.md").read_text(encoding="utf-8")
    assert "| rates-001 | 0.001 |" in table
    again = tunebook(book, "sweep", path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == out  # nothing was trained again
    best = tunebook(book, "plan", "sweeps/rates/best.yaml", "--no-probe", "--json")
    assert best.returncode == 0, best.stderr
    runs = json.loads(tunebook(book, "runs", "--filter", "tags=sweep-rates", "--json").stdout)
    assert {run["name"] for run in runs} == {"rates-001", "rates-002"}


@pytest.mark.slow
def test_a_sweep_that_is_stopped_saves_its_trials_and_goes_on(book: Path, tiny_model: Path) -> None:
    path = write_sweep(book, tiny_model, over={"train.learning_rate": [1e-3]}, seeds=2)
    process = start(book, "sweep", path, "--workers", "1")
    run, until = RunFolder(book, "rates-001-s0"), time.monotonic() + 120
    while time.monotonic() < until and not (run.exists() and len(read_events(run).steps) >= 3):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "goes on with it" in err
    assert current_state(run) == "paused"
    done = tunebook(book, "sweep", path, "--json")
    assert done.returncode == 0, done.stderr
    check_whole(book, 2)
    [point] = json.loads(done.stdout)["points"]
    assert point["runs"] == ["rates-001-s0", "rates-001-s1"]
    assert len(point["interval"]) == 2
    assert point["values"][0] != point["values"][1]


def test_mistakes_are_told_before_anything_is_trained(book: Path, tiny_model: Path) -> None:
    path = write_sweep(book, tiny_model, over={"train.learning_rat": [1.0]})
    wrong = tunebook(book, "sweep", path)
    assert wrong.returncode == 2
    assert "learning_rat" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    path = write_sweep(book, tiny_model, run="nowhere.yaml")
    wrong = tunebook(book, "sweep", path)
    assert wrong.returncode == 2
    assert "nowhere.yaml" in wrong.stderr
    assert not (book / "sweeps").exists()


@pytest.mark.slow
def test_twelve_trials_on_two_workers_all_end_with_one_killed(book: Path, tiny_model: Path) -> None:
    over = {"train.learning_rate": [1e-3, 1e-4, 1e-5], "train.effective_batch_size": [2, 4]}
    path = write_sweep(book, tiny_model, over=over, seeds=2)
    process = start(book, "sweep", path, "--workers", "2")
    kill_one(book, "rates-002-s0", process)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    check_whole(book, 12)
    result = json.loads(tunebook(book, "sweep", path, "--json").stdout)
    assert result["points"][0]["settings"]["train.learning_rate"] == 1e-3
    verdicts = [one["verdict"] for one in result["points"][1:]]
    assert "different" in verdicts
    assert "Tukey" in out
