"""The real `tunebook` command and the real training process, without seconds of imports each time.

The program that tests imports torch, transformers and tunebook once. `start` forks it and runs the
command line in the fork; where the launcher would start `python -m tunebook.workflows.trainer` as
a child, the fork forks again and runs that module, with the same pipe, session and log; likewise
where a sweep starts a trial, and a recipe a step. All else, from arguments to exit codes, is the
code that a user runs. Linux and macOS only.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TRAINER = "tunebook.workflows.trainer"
TRIAL = "tunebook.workflows.trial"
STARTS = ("launch", "sweep_queue", "recipes")
"""Modules of workflows that start Python anew, and fork here."""


def prepare() -> None:
    """Import everything once, on one thread: forks of a process with threads may hang."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
    import peft  # noqa: F401
    import torch
    import transformers.models.auto.modeling_auto
    import transformers.models.gpt2.modeling_gpt2
    import transformers.models.gpt2.tokenization_gpt2  # noqa: F401

    import tunebook.cli.live
    import tunebook.cli.main
    import tunebook.cli.result
    import tunebook.cli.resume
    import tunebook.cli.train
    import tunebook.workflows.launch
    import tunebook.workflows.recipes
    import tunebook.workflows.sweep_queue
    import tunebook.workflows.trainer
    import tunebook.workflows.training  # noqa: F401

    torch.set_num_threads(1)


class _Child:
    """A process that this one forked."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """Reap the process when it ended."""
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class ForkedProcess(_Child):
    """Stands for `subprocess.Popen` where a process of tunebook's own is started."""

    inside: Callable[[], None] = staticmethod(lambda: None)  # called first in the training process

    def __init__(
        self,
        args: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: Any = None,
        stderr: Any = None,
        env: Mapping[str, str],
        cwd: Path | None = None,
        start_new_session: bool = False,
        process_group: int | None = None,
    ) -> None:
        assert list(args[:3]) == [sys.executable, "-P", "-m"], args
        read, write = os.pipe()
        out, error = _descriptor(stdout, 1), _descriptor(stderr, 2)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(write)
            if start_new_session:
                os.setsid()
            elif process_group is not None:
                os.setpgid(0, process_group)
            os.environ.update(env)
            if cwd is not None:
                os.chdir(cwd)
            _run(read, out, error, lambda: _work(args[3], args[4:]))
        os.close(read)
        self.stdin = os.fdopen(write, "wb")
        if stdin != subprocess.PIPE:
            self.stdin.close()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends."""
        ends = time.monotonic() + (timeout or 600)
        while self.poll() is None:
            if time.monotonic() > ends:
                raise subprocess.TimeoutExpired(TRAINER, timeout or 600)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it, unless it ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def _descriptor(stream: Any, own: int) -> int:
    if stream is None:
        return own
    if stream == subprocess.DEVNULL:
        return os.open(os.devnull, os.O_WRONLY)
    return int(stream.fileno())


def _work(module: str, args: Sequence[str]) -> int:
    if module == "tunebook":
        import tunebook.cli.main

        return tunebook.cli.main.main(list(args))
    assert module in (TRAINER, TRIAL), module
    sys.argv = [module, *args]
    if module == TRAINER:
        ForkedProcess.inside()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it was imported before
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _run(read: int, out: int, error: int, work: Callable[[], int]) -> None:
    """Be a process of its own: streams, signals, exit code; never returns."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for target, source in ((0, read), (1, out), (2, error)):
            os.dup2(source, target)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        os.closerange(3, 256)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


class Command(_Child):
    """A `tunebook` command in a fork, and the training process it started."""

    def __init__(
        self,
        book: Path,
        args: Sequence[str],
        inside: Callable[[], None] = lambda: None,
        output: Path | None = None,
        closed_output: bool = False,
        stdin: Path = Path(os.devnull),
    ) -> None:
        self.book = book
        self.output = output or book / ".said"
        self.output.write_bytes(b"")
        if closed_output:
            reader, opened = os.pipe()
            os.close(reader)
        else:
            opened = os.open(self.output, os.O_WRONLY | os.O_APPEND)
        nothing = os.open(stdin, os.O_RDONLY)
        # Opened here: a book that is deleted at once is deleted under the command, not before it.
        folder = os.open(self.book, os.O_RDONLY)
        self.pid = os.fork()
        if self.pid == 0:
            os.fchdir(folder)
            _run(nothing, opened, opened, lambda: self._work(args, inside))
        for each in (opened, nothing, folder):
            os.close(each)

    def _work(self, args: Sequence[str], inside: Callable[[], None]) -> int:
        import tunebook.cli.main
        import tunebook.workflows.launch as launch

        ForkedProcess.inside = staticmethod(inside)
        shim = SimpleNamespace(**vars(subprocess))
        shim.Popen = ForkedProcess
        for name in STARTS:
            sys.modules[f"tunebook.workflows.{name}"].subprocess = shim  # type: ignore[attr-defined]
        launch._POLL_SECONDS = 0.02
        return tunebook.cli.main.main(list(args))

    def wait(self, seconds: float = 120) -> int:
        """Wait until it ends; a command that takes so long is killed and is an error."""
        ends = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > ends:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"nothing ended in {seconds} s: {self.said()}")
            time.sleep(0.002)
        assert self.returncode is not None
        return self.returncode

    def trainer(self) -> int | None:
        """Look up the training process: the only child that a launcher has."""
        try:
            found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return None
        return int(found[0]) if found else None

    def said(self) -> str:
        """Give what the command printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")


def run(book: Path, *args: str, inside: Callable[[], None] = lambda: None) -> Command:
    """Run a command to its end."""
    command = Command(book, args, inside)
    command.wait()
    return command
