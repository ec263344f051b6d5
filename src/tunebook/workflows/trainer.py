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
import time
import traceback
from pathlib import Path
from types import FrameType

from tunebook.book.atomic import describe_any_disk
from tunebook.book.events import EventWriter, cut_torn_lines, next_attempt
from tunebook.book.liveness import acquire_run
from tunebook.book.places import RunFolder
from tunebook.errors import (
    RankOutOfMemory,
    ResumeRefused,
    RunEnded,
    StorageError,
    TunebookError,
    first_line,
)

# How long a rank that broke off waits to be ended for another one's fault.
_LAST_WORDS_SECONDS = 5.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class StopRequests:
    """Whether somebody asked this run to save and pause: a signal, or `tunebook stop`."""

    def __init__(self, run: RunFolder, rank: int = 0) -> None:
        self._file = run.stop_requested if rank == 0 else None
        if self._file is not None:
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
        if self._signal is not None or (self._file is not None and self._file.exists()):
            return 143
        return None

    def wait_to_be_ended(self, seconds: float) -> None:
        """Wait for a SIGTERM, and go with it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._signal == signal.SIGTERM:
                os._exit(1)
            time.sleep(0.05)


def die_with_launcher() -> None:
    """End this process as soon as its standard input closes, which the launcher's death does.

    Nothing is saved then: the launcher was killed, and the newest checkpoint is what stays.
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(137)

    threading.Thread(target=wait, daemon=True).start()


def main(folder: str, *, many: bool) -> int:
    """Train the run in a folder; every way it can end is written down as its last state.

    `many`: this is one of several processes that `workflows.ranks` started. Rank 0 is the trainer.
    """
    path = Path(folder)
    run = RunFolder(path.parent.parent, path.name)
    die_with_launcher()
    rank = int(os.environ["RANK"]) if many else 0
    stop = StopRequests(run, rank)
    if rank:
        return _follow(run, stop, rank)
    try:
        return _train(run, stop, many=many)
    except TunebookError as error:
        # Without the lock nothing may be written but the log, whose last line the launcher shows.
        _log(str(error))
        return error.exit_code


def _follow(run: RunFolder, stop: StopRequests, rank: int) -> int:
    from tunebook.workflows.follow import follow

    try:
        follow(run, stop.exit_code)
    except RankOutOfMemory as error:
        print(f"rank {rank}: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if not isinstance(error, TunebookError):
            traceback.print_exc()
        # Mostly rank 0 meets the same and says it, or has ended, which is why this rank broke off.
        stop.wait_to_be_ended(_LAST_WORDS_SECONDS)
        print(f"rank {rank}: {error}", file=sys.stderr)
        return 1
    return 0


def _train(run: RunFolder, stop: StopRequests, *, many: bool) -> int:
    with acquire_run(run) as lease:
        cut_torn_lines(run)
        events = EventWriter(run, next_attempt(run))
        try:
            # Imported here so that the run folder shows a state before torch's seconds of import.
            from tunebook.workflows.training import run_to_end

            run_to_end(run, events, stop.exit_code, lease.beat, many=many)
        except RunEnded as ended:
            return ended.exit_code
        except (StorageError, ResumeRefused) as error:
            return _end(events, "paused", str(error), error.exit_code)
        except TunebookError as error:
            return _end(events, "failed", str(error), error.exit_code)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return _end(events, "failed", describe_any_disk(error) or str(error), 1)
            if error.errno not in _NO_ROOM:
                return _bug(events, error)
            text = (
                f"cannot write to {error.filename or run.path}: {error.strerror}; free space and "
                f"`tunebook resume {run.name}`"
            )
            return _end(events, "paused", text, 1)
        except Exception as error:
            from tunebook.models.memory import is_out_of_memory

            if not is_out_of_memory(error):
                if many:
                    # Where another rank died, what broke here is no cause: the supervisor knows.
                    stop.wait_to_be_ended(_LAST_WORDS_SECONDS)
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
    text = (
        f"training failed with {type(error).__name__}: {first_line(error)} (traceback in train.log)"
    )
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
    code = main(sys.argv[1], many="--many" in sys.argv)
    if "--many" in sys.argv:
        # Process groups that are torn down while another rank still sends abort the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
