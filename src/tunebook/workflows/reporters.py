"""Trackers beside a run: started with it, asked for nothing, and ended when they hang."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from tunebook.book.places import RunFolder
from tunebook.book.writing import open_to_write
from tunebook.errors import BookError, RunFileError
from tunebook.regular import read_regular_text

Note = Callable[[str], None]

NAMES = {"wandb": "W&B", "tensorboard": "TensorBoard"}
PATIENCE_SECONDS = 30.0
"""How long the end of a command waits for a tracker to take the rest."""
_SAID_AFTER_SECONDS = 5.0
_POLL_SECONDS = 0.1


def refuse_without_library(report_to: Sequence[str]) -> None:
    """Raise RunFileError for a tracker whose library is not installed."""
    for name in report_to:
        found = find_spec(name)
        # Without an origin it is a folder of that name here, such as W&B makes.
        if found is None or found.origin is None:
            raise RunFileError(
                f"`report_to: [{name}]` needs {name}, which is not installed: "
                f"`pip install 'tunebook[{name}]'`, or say report_to: []"
            )


class Reporter:
    """The process of one tracker.

    It works in an empty folder of its own: W&B takes its settings from a file in the folder it was
    started in, and one of a stranger's book could name the host that the user's key is sent to.
    """

    def __init__(
        self,
        name: str,
        run: RunFolder,
        attempt: int,
        environment: Mapping[str, str],
        working_folder: str,
    ) -> None:
        self.name = name
        self._log = run.report_log(name)
        self._told = False
        with open_to_write(run.book, self._log, "anew") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tunebook.workflows.report", name,
                 str(run.path.absolute()), str(attempt)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**environment},
                cwd=working_folder,
                start_new_session=True,
            )  # fmt: skip

    @property
    def is_over(self) -> bool:
        """Tell whether its process has ended."""
        return self._process.poll() is not None

    def look(self, note: Note) -> None:
        """Say once that the tracker broke off, and why."""
        if self._told or not self._process.poll():
            return
        self._told = True
        note(
            f"{NAMES[self.name]} is told nothing more of this run ({self._last_words()}); the run "
            "goes on, and the book has all of it"
        )

    def say_that_it_is_over(self) -> None:
        """Close what the process waits for, so that it passes on the rest and ends."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def kill(self) -> None:
        """End the process with what it started."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _last_words(self) -> str:
        code = self._process.returncode
        try:
            lines = read_regular_text(self._log).strip().splitlines()
        except OSError:
            lines = []
        said = lines[-1].strip().rstrip(".") if lines else ""
        return said[:300] or f"its process ended with {code}"


@contextmanager
def reporting(
    run: RunFolder,
    report_to: Sequence[str],
    attempt: int,
    environment: Mapping[str, str],
    watch: Callable[[str, Mapping[str, Any]], None],
) -> Iterator[Callable[[], None]]:
    """Keep trackers told while the block runs; gives a function to call now and then.

    Nothing here raises for a tracker's sake. On leaving, each has `PATIENCE_SECONDS` for the rest.
    """

    def note(text: str) -> None:
        watch("note", {"text": text})

    reporters: list[Reporter] = []
    folders: list[str] = []
    for name in dict.fromkeys(report_to):
        try:
            folders.append(tempfile.mkdtemp(prefix="tunebook-report-"))
            reporters.append(Reporter(name, run, attempt, environment, folders[-1]))
        except (OSError, BookError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            note(f"{NAMES.get(name, name)} is told nothing of this run ({why})")

    def look() -> None:
        for reporter in reporters:
            reporter.look(note)

    try:
        yield look
    finally:
        _end(reporters, note)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _end(reporters: Sequence[Reporter], note: Note) -> None:
    began = time.monotonic()
    for reporter in reporters:
        reporter.say_that_it_is_over()
    said = False
    try:
        while waiting := [reporter for reporter in reporters if not reporter.is_over]:
            spent = time.monotonic() - began
            if spent > PATIENCE_SECONDS:
                break
            if spent > _SAID_AFTER_SECONDS and not said:
                said = True
                names = " and ".join(NAMES[reporter.name] for reporter in waiting)
                note(f"waiting at most {PATIENCE_SECONDS:.0f} s for {names} to take the rest")
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:  # the run is over already, and ended as it did
        pass
    for reporter in reporters:
        if not reporter.is_over:
            reporter.kill()
            note(f"{NAMES[reporter.name]} did not take the rest in time; the book has all of it")
        else:
            reporter.look(note)
