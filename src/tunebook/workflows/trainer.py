"""The training process: one run from its resolved run file to its final weights.

Started by `workflows.launch` as `python -m tunebook.workflows.trainer RUN_FOLDER`, so that the
allocator settings are in place before torch is. It speaks to the world only through the run
folder: whoever wants to watch reads the event files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType

from tunebook.book.events import EventWriter, cut_torn_lines, next_attempt
from tunebook.book.liveness import acquire_run
from tunebook.book.places import RunFolder
from tunebook.errors import ResumeRefused, RunEnded, StorageError, TunebookError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class StopRequests:
    """Whether somebody asked this run to save and pause: a signal, or `tunebook stop`."""

    def __init__(self, run: RunFolder) -> None:
        self._file = run.stop_requested
        self._file.unlink(missing_ok=True)
        self._signal: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number

    def exit_code(self) -> int | None:
        """Give 130 or 143 when the run should pause after this step, else None."""
        if self._signal == signal.SIGINT:
            return 130
        if self._signal is not None or self._file.exists():
            return 143
        return None


def die_with_launcher() -> None:
    """End this process as soon as its standard input closes, which the launcher's death does.

    Nothing is saved then: the launcher was killed, and the newest checkpoint is what stays.
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(137)

    threading.Thread(target=wait, daemon=True).start()


def main(folder: str) -> int:
    """Train the run in a folder; every way it can end is written down as its last state."""
    path = Path(folder)
    run = RunFolder(path.parent.parent, path.name)
    die_with_launcher()
    stop = StopRequests(run)
    try:
        return _train(run, stop)
    except TunebookError as error:
        # Without the lock nothing may be written but the log, whose last line the launcher shows.
        _log(str(error))
        return error.exit_code


def _train(run: RunFolder, stop: StopRequests) -> int:
    with acquire_run(run) as lease:
        cut_torn_lines(run)
        events = EventWriter(run, next_attempt(run))
        try:
            # Imported here so that the run folder shows a state before torch's seconds of import.
            from tunebook.workflows.training import run_to_end

            run_to_end(run, events, stop.exit_code, lease.beat)
        except RunEnded as ended:
            return ended.exit_code
        except (StorageError, ResumeRefused) as error:
            return _end(events, "paused", str(error), error.exit_code)
        except TunebookError as error:
            return _end(events, "failed", str(error), error.exit_code)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                return _bug(events, error)
            text = (
                f"cannot write to {error.filename or run.path}: {error.strerror}; free space and "
                f"`tunebook resume {run.name}`"
            )
            return _end(events, "paused", text, 1)
        except Exception as error:
            from tunebook.step.peak import is_out_of_memory

            if not is_out_of_memory(error):
                return _bug(events, error)
            _log(traceback.format_exc())
            text = (
                f"out of memory outside of a step's micro-batches ({type(error).__name__}; "
                f"traceback in train.log); free memory and `tunebook resume {run.name}`, which "
                "goes on from the newest checkpoint"
            )
            return _end(events, "paused", text, 1)
        finally:
            with contextlib.suppress(OSError):
                events.close()
    return 0


def _bug(events: EventWriter, error: Exception) -> int:
    _log(traceback.format_exc())
    first = (str(error).strip().splitlines() or [""])[0]
    text = f"training failed with {type(error).__name__}: {first} (traceback in train.log)"
    return _end(events, "failed", text, 1)


def _end(events: EventWriter, state: str, reason: str, exit_code: int) -> int:
    _log(f"{state}: {reason}")
    try:
        events.write("state", {"state": state, "reason": reason})
    except (OSError, StorageError):
        # On a full disk the state cannot be written; a dead trainer reads as paused all the same.
        _log("the last state could not be written")
    return exit_code


def _log(text: str) -> None:
    # The log may lie on the disk that is full, and is no reason to leave out what comes next.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
