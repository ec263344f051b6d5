"""A run on two devices: it stops as one, a dead rank is named, and any number goes on with it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from test_train_flow import history, start, tunebook, wait_for_step, weights, write_run

from tunebook.book.checkpoints import checkpoint_step, newest_good_checkpoint
from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, create_book

STEPS = 8
CHANGES = {
    "devices": 2,
    "train": {"max_steps": STEPS, "effective_batch_size": 6},
    "evaluate": {"every": 4, "max_new_tokens": 4},
    "checkpoint": {"every": 1, "keep": 2},
}


def ranks_of(process: subprocess.Popen[bytes]) -> dict[int, psutil.Process]:
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            rank = child.environ().get("RANK")
        except psutil.Error:
            continue
        if rank is not None:
            found[int(rank)] = child
    return found


def send_at_step(book: Path, name: str, rank: int, number: int, step: int = 3) -> tuple[int, str]:
    """Go on with a run, signal a rank once a step is saved; gives exit code and last words."""
    # Beside the command itself nothing waits as long as it does in life.
    supervise = "import sys; from tunebook.workflows import ranks; sys.exit(ranks.main(*{}))"
    run = RunFolder(book, name)
    command = supervise.format((str(run.path), 2, 2.0))
    log = book / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", command],
            stdin=subprocess.PIPE,  # kept open: when it closes, the launcher has died
            stderr=file,
            stdout=file,
        )
    deadline = time.monotonic() + 200
    while not (run.checkpoints / f"step-{step}").exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ranks = ranks_of(process)
    ranks[rank].send_signal(number)
    code = process.wait(100)
    assert not any(p.is_running() for p in ranks.values())
    assert process.stdin is not None
    process.stdin.close()
    return code, log.read_text(encoding="utf-8")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return create_book(tmp_path / "book")


def train_whole(book: Path, model: Path) -> RunFolder:
    done = tunebook(book, "train", write_run(book, "whole", model, **CHANGES))
    assert done.returncode == 0, done.stderr
    whole = RunFolder(book, "whole")
    assert read_events(whole).fact("devices") == 2
    shards = whole.checkpoints / f"step-{STEPS}" / "optimizer"
    assert sorted(p.suffix for p in shards.iterdir()) == [".safetensors"] * 2
    return whole


def kill_a_rank_of_another(whole: RunFolder) -> RunFolder:
    """Begin the same run once more, and kill its second rank after a few steps."""
    book = whole.book
    broken = RunFolder(book, "broken")
    broken.path.mkdir()
    for name in ("run.yaml", "resolved.yaml"):
        shutil.copy(whole.path / name, broken.path / name)
    code, words = send_at_step(book, "broken", rank=1, number=signal.SIGKILL)
    assert code == 1
    assert "rank 1 of 2 was killed (SIGKILL" in words
    assert read_events(broken).last_state == "paused"
    return broken


def goes_on_as(whole: RunFolder, broken: RunFolder) -> None:
    resumed = tunebook(broken.book, "resume", broken.name)
    assert resumed.returncode == 0, resumed.stderr
    assert weights(broken) == weights(whole)
    assert history(broken) == history(whole)


def test_a_killed_rank_ends_the_run_on_two_devices_which_goes_on_to_the_same(
    book: Path, tiny_gpt2: Path
) -> None:
    whole = train_whole(book, tiny_gpt2)
    goes_on_as(whole, kill_a_rank_of_another(whole))


@pytest.mark.slow
def test_a_run_on_two_devices_stops_as_one_and_ends_the_same(book: Path, tiny_gpt2: Path) -> None:
    whole = train_whole(book, tiny_gpt2)
    broken = kill_a_rank_of_another(whole)
    checkpoint, bad = newest_good_checkpoint(broken)
    assert checkpoint is not None
    assert not bad
    # A signal to a rank that is not the first stops all of them, after the same step.
    before = int(checkpoint.name.removeprefix("step-"))
    shutil.copytree(broken.path, book / "runs" / "other")
    code, words = send_at_step(book, "broken", rank=1, number=signal.SIGTERM, step=before + 1)
    assert code == 143, words
    assert read_events(broken).last_state == "paused"
    goes_on_as(whole, broken)

    # The other copy goes on with one device: the same but for rounding.
    resumed = tunebook(book, "resume", "other", "devices=1")
    assert resumed.returncode == 0, resumed.stderr
    other = RunFolder(book, "other")
    assert "goes on with devices: 1 where it had 2" in " ".join(read_events(other).notes)
    for mine, same in zip(read_events(other).steps, read_events(whole).steps, strict=True):
        assert mine.loss == pytest.approx(same.loss, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-5), ("bf16", 4e-3)])
def test_two_devices_become_four_then_one_then_two(
    book: Path, tiny_gpt2: Path, precision: str, close: float
) -> None:
    """The optimizer's slices are dealt out anew each time; the losses are those of one device."""
    # Of one size, for each micro-batch draws its own dropout.
    train = {"max_steps": 24, "effective_batch_size": 8, "micro_batch_size": 2}
    changes = {**CHANGES, "train": train, "precision": precision}
    done = tunebook(book, "train", write_run(book, "one", tiny_gpt2, **{**changes, "devices": 1}))
    assert done.returncode == 0, done.stderr
    run, step = RunFolder(book, "many"), 0
    command = ["train", write_run(book, "many", tiny_gpt2, **changes)]
    seen = []
    for devices in (2, 4, 1):
        step = stop_after(start(book, *command, f"devices={devices}"), run, step + 2)
        shards = run.checkpoints / f"step-{step}" / "optimizer"
        seen.append((devices, len(list(shards.glob("*.safetensors")))))
        command = ["resume", "many"]
    assert seen == [(2, 2), (4, 4), (1, 0)]
    resumed = tunebook(book, *command, "devices=2")
    assert resumed.returncode == 0, resumed.stderr
    ours, theirs = read_events(run), read_events(RunFolder(book, "one"))
    assert len(ours.steps) == 24
    for mine, same in zip(ours.steps, theirs.steps, strict=True):
        assert mine.loss == pytest.approx(same.loss, rel=close), (mine.step, seen)
        assert mine.grad_norm == pytest.approx(same.grad_norm, rel=10 * close), (mine.step, seen)
    for mine, same in zip(ours.validations, theirs.validations, strict=True):
        assert mine.loss == pytest.approx(same.loss, rel=close)


def stop_after(process: subprocess.Popen[str], run: RunFolder, step: int) -> int:
    """Let a run be saved and paused once a step is done; gives the step it stands at."""
    wait_for_step(run, step, process, seconds=400)
    run.stop_requested.touch()  # what `tunebook stop` leaves, without its start
    _, error = process.communicate(timeout=200)
    assert process.returncode == 143, error
    checkpoint, bad = newest_good_checkpoint(run)
    assert checkpoint is not None
    assert not bad
    return checkpoint_step(checkpoint)


@pytest.mark.slow
def test_a_rank_that_stands_still_is_named(book: Path, tiny_gpt2: Path) -> None:
    done = tunebook(book, "train", write_run(book, "whole", tiny_gpt2, **CHANGES))
    assert done.returncode == 0, done.stderr
    whole, frozen = RunFolder(book, "whole"), RunFolder(book, "frozen")
    frozen.path.mkdir()
    for name in ("run.yaml", "resolved.yaml"):
        shutil.copy(whole.path / name, frozen.path / name)
    started = time.monotonic()
    code, words = send_at_step(book, "frozen", rank=1, number=signal.SIGSTOP)
    assert code == 1
    assert "rank 1 of 2 stood still for 2 s" in words
    assert time.monotonic() - started < 200
