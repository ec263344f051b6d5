"""Pipes, folders and links where a book has files: one sentence that names them, and no waiting."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.book.checkpoints import writing_folder
from tunebook.book.evaluations import open_log
from tunebook.book.licences import read_licence
from tunebook.book.places import RunFolder
from tunebook.book.released import check_folder
from tunebook.cli.main import main
from tunebook.data.store import open_store, sha256_of
from tunebook.errors import BookError, ReleaseTampered
from tunebook.workflows import launch
from tunebook.workflows.launch import _passing_signals_to

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def run(book: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(book)
    return make_run(book, "a")


# --- pipes ---------------------------------------------------------------------------------------


def test_a_pipe_among_released_files_is_named(tmp_path: Path) -> None:
    with writing_folder(tmp_path / "released") as folder:
        (folder / "README.md").write_text("a card")
    check_folder(tmp_path / "released")
    (tmp_path / "released" / "README.md").unlink()
    os.mkfifo(tmp_path / "released" / "README.md")
    with pytest.raises(ReleaseTampered, match=r"README.md cannot be read: it is a pipe"):
        check_folder(tmp_path / "released")


def test_a_pipe_among_tokens_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ids-00000.bin")
    with pytest.raises(OSError, match="it is a pipe"):
        sha256_of(tmp_path / "ids-00000.bin")
    assert open_store(tmp_path, "nothing") == (None, None)


def test_a_pipe_among_evaluations_is_named(run: RunFolder) -> None:
    with open_log(run, "loss", "final", {}) as log:
        pass
    log.path.unlink()
    os.mkfifo(log.path)
    with (
        pytest.raises(BookError, match=r"jsonl is a pipe, .* take it away"),
        open_log(run, "loss", "final", {}),
    ):
        pass


def test_a_folder_of_event_files_with_a_pipe_is_not_imported(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.book / "logs").mkdir()
    os.mkfifo(run.book / "logs" / "events.out.tfevents.1")
    assert main(["import", "logs"]) == 2
    assert "logs/events.out.tfevents.1 is a pipe" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "config.json"])
def test_a_pipe_states_no_licence(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert read_licence(tmp_path) is None


# --- a trainer that stands -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_trainer_that_stands(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "PATIENCE_SECONDS", 0.2)
    script = (
        "import signal, sys, time\n"
        "for one in (signal.SIGINT, signal.SIGTERM): signal.signal(one, signal.SIG_IGN)\n"
        "print('ready', flush=True); time.sleep(50)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    said: list[str] = []
    with _passing_signals_to(process, lambda _kind, what: said.append(what["text"])) as seen:
        os.kill(os.getpid(), number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        os.kill(os.getpid(), number)
        assert process.wait(20) == -signal.SIGKILL
        assert seen() == number
    process.stdout.close()
    name = "Ctrl-C again" if number == signal.SIGINT else "another SIGTERM, seconds later,"
    assert said == [f"saving and pausing; {name} stops at once"]


def test_a_request_that_comes_twice_leaves_a_trainer_that_saves_alone() -> None:
    # systemd tells all of a service, and who waits for the launcher passes it on to it.
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit(7)))\n"
        "print('ready', flush=True); time.sleep(50)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with _passing_signals_to(process, lambda _kind, _what: None):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        assert process.wait(20) == 7
    process.stdout.close()


# --- what stands where something else has to be --------------------------------------------------


def lay(book: Path, what: str) -> None:
    hidden = book / ".tunebook"
    lock = hidden / "pages.lock"
    lock.unlink(missing_ok=True)
    if what in ("file", "link to nowhere"):
        shutil.rmtree(hidden)
    if what == "file":
        hidden.touch()
    elif what == "link to nowhere":
        hidden.symlink_to(book.parent / "nowhere")
    elif what == "lock is a folder":
        lock.mkdir()
    elif what == "lock is a link":
        lock.symlink_to(book / "tunebook.yaml")
    elif what == "lock is a loop":
        lock.symlink_to(lock)


ODD = {
    "file": ".tunebook is no folder, and has to be one; take it away",
    "link to nowhere": "nowhere, and tunebook writes nothing through a link in a book; delete the",
    "lock is a folder": "pages.lock is a folder, and has to be a file; take it away",
    "lock is a link": "pages.lock is a link to {book}/tunebook.yaml, which is not followed",
    "lock is a loop": "pages.lock is a link that leads to itself; take it away, or name another",
}


@pytest.mark.parametrize("command", [["note", "a", "x"], ["notebook", "build"]], ids=lambda c: c[0])
@pytest.mark.parametrize("what", ODD)
def test_what_is_in_the_way_in_the_hidden_folder_is_named(
    run: RunFolder, what: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lay(run.book, what)
    assert main(command) in (0, 1, 2)
    said = capsys.readouterr()
    assert ODD[what].format(book=run.book) in said.err + said.out
    assert "bug in tunebook" not in said.err
    assert "nowhere" not in os.listdir(run.book.parent)
