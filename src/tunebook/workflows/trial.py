"""One trial of a sweep, as a process: `python -m tunebook.workflows.trial BOOK NAME`.

It starts the run or goes on with it, whichever the run needs, so it can be tried again at any time.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from tunebook.book.liveness import ENDED, SILENT_SECONDS, current_state
from tunebook.book.places import open_run
from tunebook.book.summary import summarize
from tunebook.errors import BookError, TunebookError
from tunebook.records import RunSummary
from tunebook.workflows.changes import refuse_changes
from tunebook.workflows.launch import Watcher
from tunebook.workflows.run_folder import has_trained
from tunebook.workflows.train import load_recipe, start_run, train_run

# A trainer on a host that died is known to be dead when its heartbeat is so old.
_WAIT_SECONDS = 1.5 * SILENT_SECONDS
_POLL_SECONDS = 0.5


def _silent(_kind: str, _payload: object) -> None:
    pass


def resume_or_start(
    book: Path, name: str, watch: Watcher = _silent, *, wait_seconds: float = 0.0
) -> RunSummary:
    """Bring a run to its end from wherever it is; does nothing with one that has ended.

    A trainer that may be dying is waited for, `wait_seconds` at most. Raises BookError for a run
    that another process goes on training, RunEnded when it did not reach its end.
    """
    run = open_run(book, name)
    until = time.monotonic() + wait_seconds
    while (state := current_state(run)) == "running" and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    if state in ENDED:
        return summarize(run)
    if state == "running":
        raise BookError(f"run {name} is being trained by another process")
    if run.started() and has_trained(run):
        refuse_changes(run, watch)
        return train_run(run, watch)
    return train_run(start_run(book, load_recipe(name, (), book)), watch)


def _end_with_parent() -> None:
    """End as soon as standard input closes; the trainer hangs on this process in the same way."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(137)

    threading.Thread(target=wait, daemon=True).start()


def main(book: str, name: str) -> int:
    """Bring a run to its end; says why where it did not, and gives the exit code."""
    _end_with_parent()
    try:
        resume_or_start(Path(book), name, wait_seconds=_WAIT_SECONDS)
    except TunebookError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # before the training process was there to be told
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
