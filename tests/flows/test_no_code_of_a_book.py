"""A book may be a stranger's: no Python that lies in the folder of a command is run by it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunebook.book.places import create_book, open_run

RUN = """\
name: a
model: tunebook/tiny
data: [{path: rows.jsonl}]
template: alpaca
train: {max_steps: 2, effective_batch_size: 2}
accept: [random-base]
"""
# What the processes of a run import first, and what only an optional package would bring.
PLANTED = ("orjson", "torch", "numpy", "multiprocessing", "pickle", "flash_attn", "sitecustomize")
# As the installed command begins: the working folder is not looked through.
INSTALLED = ("-P", "-c", "import sys; from tunebook.cli.main import main; sys.exit(main())")


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    book = create_book(tmp_path / "book")
    rows = (f'{{"instruction": "say {n}", "output": "a word"}}\n' for n in range(20))
    (book / "rows.jsonl").write_text("".join(rows))
    (book / "a.yaml").write_text(RUN)
    for name in PLANTED:
        (book / f"{name}.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'a').write({name!r})\n")
    return book


def called(
    book: Path, started: tuple[str, ...], *words: str, **more: str
) -> subprocess.CompletedProcess[str]:
    known = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"} | more
    return subprocess.run(
        [sys.executable, *started, *words], cwd=book, env=known, capture_output=True, text=True
    )


@pytest.mark.parametrize("started", [INSTALLED, ("-m", "tunebook")], ids=["installed", "module"])
def test_training_in_a_book_runs_no_python_that_lies_there(
    stranger: Path, started: tuple[str, ...]
) -> None:
    done = called(stranger, started, "train", "a.yaml")
    assert not (stranger.parent / "RAN").exists()
    assert done.returncode == 0, done.stderr
    assert open_run(stranger, "a").final.is_dir()


def test_an_empty_part_of_the_path_of_python_is_left_out_for_what_training_starts(
    stranger: Path,
) -> None:
    # What the command imports before it can look at its path is its user's doing.
    for name in set(PLANTED) - {"torch", "flash_attn"}:
        (stranger / f"{name}.py").unlink()
    known = os.environ.get("PYTHONPATH", "")
    done = called(stranger, INSTALLED, "train", "a.yaml", PYTHONPATH=f":{known}::")
    assert not (stranger.parent / "RAN").exists()
    assert done.returncode == 0, done.stderr


def test_a_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = 'rmdir "$PWD"; exec "$0" -m tunebook runs'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], cwd=gone, capture_output=True, text=True
    )
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1, done.stderr


def test_the_doctor_asks_no_torch_that_lies_in_the_working_folder(stranger: Path) -> None:
    assert called(stranger, INSTALLED, "doctor").returncode == 0
    assert not (stranger.parent / "RAN").exists()


@pytest.mark.slow
def test_ranks_run_no_python_that_lies_in_the_working_folder(stranger: Path) -> None:
    (stranger / "a.yaml").write_text(RUN + "devices: 2\n")
    done = called(stranger, INSTALLED, "train", "a.yaml")
    assert not (stranger.parent / "RAN").exists()
    assert done.returncode == 0, done.stderr
