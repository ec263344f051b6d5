"""Trackers are told what the book is told, and nothing they do is felt by a run."""

from __future__ import annotations

import importlib.machinery
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_train_flow import STEPS, start, tunebook, write_run

from made_runs import make_run, make_step, make_validation
from tunebook.book.checkpoints import list_checkpoints
from tunebook.book.events import EventWriter, read_events
from tunebook.book.places import RunFolder
from tunebook.cli.main import main
from tunebook.workflows import reporters
from wandb_file import read_offline

BOTH = ["wandb", "tensorboard"]


def accumulated(run: RunFolder) -> Any:
    """Read the event files as TensorBoard does, every point of them."""
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = module.EventAccumulator(
        str(run.tensorboard), size_guidance={module.SCALARS: 0, module.TENSORS: 0}
    )
    found.Reload()
    return found


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")


def report(run: RunFolder, which: str, attempt: int) -> None:
    """Tell a tracker what there is to be told; its launcher is gone from the start."""
    done = subprocess.run(
        [sys.executable, "-m", "tunebook.workflows.report", which, str(run.path), str(attempt)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def go_on(run: RunFolder, attempt: int, after: int, until: int) -> None:
    """Write what a resumed run does: it takes the steps after its checkpoint again."""
    with EventWriter(run, attempt) as events:
        events.write("state", {"state": "running", "step": after})
        for step in range(after + 1, until + 1):
            events.write("step", make_step(step, loss=1 + step / 100))
        events.write("validation", make_validation(until, 1.5))
        events.write("state", {"state": "finished", "step": until})


def test_a_resumed_run_is_on_the_board_once(book: Path) -> None:
    run = make_run(book, "run_1", steps=10, state=None)
    report(run, "tensorboard", 1)
    mine = run.tensorboard / "events.out.tfevents.0.of-others"
    mine.touch()
    go_on(run, 2, after=6, until=12)
    report(run, "tensorboard", 2)
    board = accumulated(run)
    points = board.Scalars("train/loss")
    assert [p.step for p in points] == list(range(1, 13))
    assert [p.value for p in points[6:]] == pytest.approx([1 + s / 100 for s in range(7, 13)])
    assert [p.step for p in board.Scalars("val/loss")] == [0, 12]
    assert mine.exists()
    assert len(list(run.tensorboard.iterdir())) == 2
    result = board.Tensors("result/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert '"state": "finished"' in result


@pytest.mark.usefixtures("offline")
def test_a_resumed_run_goes_on_under_its_id_and_no_point_is_sent_twice(book: Path) -> None:
    run = make_run(book, "run_1", steps=10, state=None)
    report(run, "wandb", 1)
    go_on(run, 2, after=6, until=12)
    report(run, "wandb", 2)
    first, second = read_offline(run.path)
    assert first.id == second.id
    assert first.exit_code == 1  # the run was broken off
    assert first.summary["tunebook/state"] == "interrupted"
    assert [row["step"] for row in first.rows] == [0, *range(1, 11), 10]
    assert [row["step"] for row in second.rows] == [11, 12, 12]
    assert [row["_step"] for row in first.rows + second.rows] == list(range(15))
    assert second.config["train"]["learning_rate"] == 5e-5
    assert second.exit_code == 0
    assert second.summary["tunebook/val_loss"] == 1.5


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_both_trackers_hold_every_step_once_also_after_a_kill(book: Path, tiny_gpt2: Path) -> None:
    changes = {"report_to": BOTH, "evaluate": {"every": 5}, "checkpoint": {"every": 4}}
    path = write_run(book, "run_1", tiny_gpt2, **changes)
    run = RunFolder(book, "run_1")
    training = start(book, "train", path)
    deadline = time.monotonic() + 120
    # Beyond a checkpoint, and what came after it told to the trackers.
    while time.monotonic() < deadline:
        told = json.loads(run.wandb_json.read_text())["last"] if run.wandb_json.exists() else {}
        if told.get("step", 0) > 4 and list_checkpoints(run):
            break
        time.sleep(0.02)
    training.send_signal(signal.SIGKILL)
    training.communicate()
    before = max(step.step for step in read_events(run).steps)
    done = tunebook(book, "resume", "run_1")
    assert done.returncode == 0, done.stderr
    events = read_events(run)
    if before < STEPS:  # a machine may have been quicker than this test
        assert len(events.states) > 2

    board = accumulated(run)
    points = board.Scalars("train/loss")
    assert [(p.step, p.value) for p in points] == [
        (s.step, pytest.approx(s.loss)) for s in events.steps
    ]
    held_out = [(p.step, pytest.approx(p.value)) for p in board.Scalars("val/loss")]
    assert [(v.step, v.loss) for v in events.validations] == held_out
    assert {"config/text_summary", "verdicts/text_summary", "result/text_summary"} <= set(
        board.Tags()["tensors"]
    )
    result = board.Tensors("result/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert '"state": "finished"' in result
    assert len(list(run.tensorboard.iterdir())) == 1

    parts = read_offline(run.path)
    assert len(parts) == 2
    assert {part.id for part in parts} == {json.loads(run.wandb_json.read_text())["id"]}
    rows = [row for part in parts for row in part.rows]
    assert Counter(row["step"] for row in rows if "train/loss" in row) == Counter(
        range(1, STEPS + 1)
    )
    assert [row["step"] for row in rows if "val/loss" in row] == [
        v.step for v in events.validations
    ]
    counted = [row["_step"] for row in rows]
    assert counted == sorted(set(counted))
    losses = {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}
    assert losses == {s.step: pytest.approx(s.loss) for s in events.steps}
    last = parts[-1]
    assert (last.name, last.exit_code) == ("run_1", 0)
    assert last.config["train"]["learning_rate"] == 1e-3
    assert last.summary["tunebook/state"] == "finished"
    assert "verdicts" in last.summary


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    """Put a W&B in the way of the real one that does one thing when it is begun with."""
    place = tmp_path / "fake"
    (place / "wandb").mkdir(parents=True)
    (place / "wandb" / "__init__.py").write_text(
        f"import os, sys, time\nclass Settings:\n    def __init__(self, **_): pass\n"
        f"def init(**_):\n    {act}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(place), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(place))


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (
            "raise RuntimeError('api_key not configured')",
            "W&B is told nothing more of this run (RuntimeError: api_key not configured); the run "
            "goes on, and the book has all of it",
        ),
        pytest.param(
            "os._exit(9)",
            "W&B is told nothing more of this run (its process ended with 9)",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "time.sleep(600)",
            "W&B did not take the rest in time; the book has all of it",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_tracker_that_fails_or_hangs_is_named_once_and_the_run_is_the_same(
    book: Path,
    tiny_gpt2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    act: str,
    said: str,
) -> None:
    fake(tmp_path, monkeypatch, act)
    monkeypatch.setattr(reporters, "PATIENCE_SECONDS", 1.0)
    monkeypatch.chdir(book)
    short = {"max_steps": 4}
    path = write_run(book, "run_1", tiny_gpt2, report_to=["wandb"], train=short)
    began = time.monotonic()
    assert main(["train", str(path)]) == 0
    assert time.monotonic() - began < 100
    told = capfd.readouterr()
    assert (told.out + told.err).count(said) == 1
    assert read_events(RunFolder(book, "run_1")).last_state == "finished"


def test_a_missing_library_is_named_before_there_is_a_run(
    book: Path,
    tiny_gpt2: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # What W&B and TensorBoard leave in a folder has their names, and is no library.
    folder = importlib.machinery.ModuleSpec("tensorboard", None)
    monkeypatch.setattr(reporters, "find_spec", lambda _name: folder)
    monkeypatch.chdir(book)
    path = write_run(book, "run_1", tiny_gpt2, report_to=["tensorboard"])
    assert main(["train", str(path)]) == 2
    err = capsys.readouterr().err
    assert "`report_to: [tensorboard]` needs tensorboard, which is not installed" in err
    assert "pip install 'tunebook[tensorboard]'" in err
    assert err.count("\n") == 1
    assert not RunFolder(book, "run_1").path.exists()


@pytest.mark.slow
def test_a_run_goes_on_without_its_tracker_when_told_to(
    book: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    path = write_run(book, "run_1", tiny_gpt2, report_to=["tensorboard"])
    run = RunFolder(book, "run_1")
    training = start(book, "train", path)
    while not list_checkpoints(run) and training.poll() is None:
        time.sleep(0.02)
    training.send_signal(signal.SIGTERM)
    training.communicate()
    if training.returncode == 0:
        pytest.skip("the run was over before it could be stopped")
    assert len(accumulated(run).Scalars("train/loss")) == len(read_events(run).steps)
    told = {path.name: path.read_bytes() for path in run.tensorboard.iterdir()}
    done = tunebook(book, "resume", "run_1", "report_to=[]")
    assert done.returncode == 0, done.stderr
    assert "taken over: report_to: ['tensorboard'] -> []" in done.stderr + done.stdout
    assert {path.name: path.read_bytes() for path in run.tensorboard.iterdir()} == told
