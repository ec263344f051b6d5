"""A process killed at each call by which a save becomes durable or visible."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunebook.book.checkpoints import (
    clear_stale_folders,
    list_checkpoints,
    mark_best,
    newest_good_checkpoint,
    rotate_checkpoints,
    stale_folders,
    verify_checkpoint,
    writing_checkpoint,
    writing_folder,
)
from tunebook.book.places import RunFolder, create_book

CALLS = ("fsync", "rename", "replace", "mkdir", "symlink", "unlink", "rmdir")


def save(run: RunFolder, step: int) -> None:
    """Do all that a run does with its disk at a step that is the best so far, and its last."""
    with writing_checkpoint(run, step) as folder:
        (folder / "model.safetensors").write_bytes(bytes(100) + bytes([step]))
        (folder / "state").mkdir()
        (folder / "state" / "state.json").write_text(f'{{"step": {step}}}')
    mark_best(run, step)
    rotate_checkpoints(run, keep=1, protect={step})
    with writing_folder(run.final) as folder:
        (folder / "model.safetensors").write_bytes(bytes([step]))


def fork(work: Callable[[], None]) -> int:
    """Do something in a process of its own; gives the number of the signal that ended it, or 0."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def killed_at(number: int, after: bool, work: Callable[[], None]) -> Callable[[], None]:
    """Make work whose process dies before, or right after, its n-th call."""

    def counting(real: Callable[..., Any], count: list[int]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            count[0] += 1
            now = count[0] == number
            try:
                if now and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)
            finally:
                if now:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    def dying() -> None:
        count = [0]
        for name in CALLS:
            setattr(os, name, counting(getattr(os, name), count))
        work()

    return dying


@pytest.mark.slow
@pytest.mark.parametrize("step", [11, 10], ids=["a new checkpoint", "one saved again"])
def test_killed_at_every_call_of_a_save_a_good_checkpoint_stays_and_nothing_is_damaged(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A kill loses nothing that the system already has; waiting for the disk is most of the time.
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    ended = False
    number = 0
    while not ended:
        number += 1
        for after in (False, True):
            run = RunFolder(create_book(tmp_path / f"{number}-{after}"), "r")
            save(run, 9)
            save(run, 10)
            ended = fork(killed_at(number, after, lambda run=run: save(run, step))) == 0
            # What the next attempt does first, and what a resume asks.
            clear_stale_folders(run)
            found, problems = newest_good_checkpoint(run)
            assert found is not None
            assert found.name in ("step-10", f"step-{step}")
            assert problems == []
            for path in list_checkpoints(run):
                verify_checkpoint(path)
            verify_checkpoint(run.best.resolve())
            save(run, 12)
            assert [path.name for path in list_checkpoints(run)] == ["step-12"]
            verify_checkpoint(run.final)
            assert stale_folders(run) == []
    assert number > 20
