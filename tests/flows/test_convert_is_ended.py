"""A conversion that is ended leaves no process that reads on, and no weights aside for ever."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest


@pytest.fixture
def pickled(tiny_gpt2: Path, tmp_path: Path) -> Path:
    import torch
    from safetensors.torch import load_file

    folder = Path(shutil.copytree(tiny_gpt2, tmp_path / "old"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def convert(pickled: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tunebook", "convert", str(pickled), "-o", str(out)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_reader(process: subprocess.Popen[str]) -> psutil.Process:
    """Give the process that reads the weights, as soon as it runs."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None
        if children := psutil.Process(process.pid).children():
            return children[0]
        time.sleep(0.01)
    raise AssertionError("nothing was started to read the weights")


def is_gone(process: psutil.Process) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def asides(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_reader_and_clears_what_was_written_aside(
    pickled: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = convert(pickled, tmp_path / "new")
    reader = wait_for_reader(process)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}; nothing is left at {tmp_path / 'new'}" in said
    assert "Traceback" not in said
    assert is_gone(reader)
    assert asides(tmp_path) == []
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_reader_ends_with_a_killed_conversion_and_the_next_clears_what_that_left(
    pickled: Path, tmp_path: Path
) -> None:
    process = convert(pickled, tmp_path / "new")
    reader = wait_for_reader(process)
    # It is shut in by then; that change of rights must not undo what was asked of the kernel.
    while not list(tmp_path.glob(".tmp-new-*/part-*")) and reader.is_running():
        time.sleep(0.001)
    reader.suspend()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert is_gone(reader)
    assert len(asides(tmp_path)) == 1
    again = convert(pickled, tmp_path / "new")
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert asides(tmp_path) == []
    assert (tmp_path / "new" / "model.safetensors").is_file()
