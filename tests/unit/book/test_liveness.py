from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.book.liveness import acquire_run, current_state, is_alive
from tunebook.book.places import RunFolder
from tunebook.errors import BookError


def test_a_held_run_is_running_and_refuses_a_second_trainer(book: Path) -> None:
    run = make_run(book, "a", state=None)
    with acquire_run(run) as lease:
        lease.beat()
        assert is_alive(run)
        assert current_state(run) == "running"
        message = rf"run a is being trained by process {os.getpid()} on host"
        with pytest.raises(BookError, match=message), acquire_run(run, wait_seconds=0.1):
            pass
    with acquire_run(run):
        pass


def test_a_process_that_died_leaves_a_paused_run_that_can_be_taken_at_once(book: Path) -> None:
    run = make_run(book, "a", state=None)
    code = (
        "import os, sys, pathlib; from tunebook.book.places import RunFolder;"
        "from tunebook.book.liveness import acquire_run;"
        "c = acquire_run(RunFolder(pathlib.Path(sys.argv[1]), 'a')); c.__enter__(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(book)], check=False)
    assert run.heartbeat_json.exists()
    assert current_state(run) == "paused"
    with acquire_run(run, wait_seconds=0.1):
        assert current_state(run) == "running"


@pytest.mark.parametrize(("age", "state"), [(10, "running"), (61, "paused")])
def test_a_process_of_another_host_lives_as_long_as_its_heart_beats(
    book: Path, age: float, state: str
) -> None:
    run = make_run(book, "a", state=None)
    beat = {"host": "elsewhere", "pid": 1, "process": "1", "time": time.time() - age}
    run.heartbeat_json.write_text(json.dumps(beat))
    assert current_state(run) == state


def test_a_process_id_used_again_is_not_the_trainer(book: Path) -> None:
    run = make_run(book, "a", state=None)
    with acquire_run(run):
        beat = json.loads(run.heartbeat_json.read_text())
    run.heartbeat_json.write_text(json.dumps(beat | {"process": "1"}))
    assert current_state(run) == "paused"
    run.heartbeat_json.write_text("{")
    assert current_state(run) == "paused"


@pytest.mark.parametrize("state", ["finished", "stopped", "failed", "paused"])
def test_a_recorded_end_is_believed(book: Path, state: str) -> None:
    assert current_state(make_run(book, "a", state=state)) == state


def test_a_run_file_alone_is_new(book: Path) -> None:
    run = RunFolder(book, "n")
    run.path.mkdir()
    run.run_yaml.write_text("name: n\n")
    assert current_state(run) == "new"
    assert not run.started()


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0], ids=["back", "forward"])
def test_a_clock_that_jumps_leaves_a_living_run_running_and_locked(
    book: Path, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    run = make_run(book, "a", state=None)
    real, started, boot = time.time, psutil.Process.create_time, psutil.boot_time()
    with acquire_run(run) as lease:
        # The system's record of when it booted moves with its clock, and so do all start times.
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        monkeypatch.setattr(psutil, "boot_time", lambda: boot + jump)
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: started(process) + jump)
        assert current_state(run) == "running"
        lease.beat()
        assert current_state(run) == "running"
        with pytest.raises(BookError, match="being trained"), acquire_run(run, wait_seconds=0.1):
            pass
    assert current_state(run) == "paused"
