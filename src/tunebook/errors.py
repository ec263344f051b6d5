"""Every mistake a user can make, as one sentence and an exit code.

A message names the thing, the value and the way out. Only these classes reach the user as text;
anything else is a bug and is reported as one.
"""

from __future__ import annotations

from pathlib import Path

MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of reading what another hand or release wrote; only that part is lost by it."""


class TunebookError(Exception):
    """A failure with a sentence for the user; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(TunebookError):
    """The command, the run file or the data is wrong; nothing was started."""

    exit_code = 2


class RunFileError(UsageError):
    """The run file does not parse, or a key or value in it is not valid."""


class DataError(UsageError):
    """A data file cannot be read, or no row or target token is left of it."""


class DefectError(DataError):
    """Data that would train something else than meant; a plan gives it as the finding it names."""

    def __init__(self, finding: str, message: str, way_out: str) -> None:
        # All are kept as arguments: a worker process sends an error by them.
        super().__init__(finding, message, way_out)
        self.finding, self.message, self.way_out = finding, message, way_out

    def __str__(self) -> str:
        return f"{self.finding}: {self.message}; {self.way_out}"


class ModelError(UsageError):
    """A model or its tokenizer cannot be found or loaded."""


class ParentMismatch(ModelError):
    """Weights are not those that a run or an adapter was made with (defect 18)."""


class BookError(UsageError):
    """There is no book here, or it has no such run, or the run is in the wrong state."""


class Busy(BookError):
    """Another process is writing what this one wants to write."""


class ResumeRefused(BookError):
    """A run cannot go on as it began; it stays paused."""


class PlanRefused(TunebookError):
    """The run cannot work as planned."""

    exit_code = 3


class CheckpointError(TunebookError):
    """A checkpoint is missing, incomplete or altered."""


class ReplayFailed(TunebookError):
    """Steps that were taken again did not come to what was recorded of them."""


class ReleaseRefused(TunebookError):
    """Exported weights do not say what the trained model says."""


class ReleaseTampered(TunebookError):
    """A released folder is not what was released."""


class GgufFailed(TunebookError):
    """The converter made no GGUF file; the release is there without it."""


class PushFailed(TunebookError):
    """A release could not be uploaded; its folder is kept."""


class StorageError(TunebookError):
    """A file could not be written: the disk is full or the folder is not writable."""


class LibraryFault(TunebookError):
    """A library that was taken on trial gave a wrong result; what it made has to be made again."""

    def __init__(self, message: str, library: str) -> None:
        super().__init__(message, library)
        self.library = library

    def __str__(self) -> str:
        return str(self.args[0])


class RankOutOfMemory(TunebookError):
    """A rank beside the first ran out of memory; the supervisor pauses the run for it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: what the supervisor knows it by


class RunEnded(TunebookError):
    """A run ended before its last step; carries the exit code of the way it ended."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message, exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        return str(self.args[0])


def first_line(error: BaseException) -> str:
    """Give the first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def refuse_unwritable_name(path: Path) -> None:
    """Raise DataError for a name that is not UTF-8: what was read could not be written down."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode("utf-8", "replace").decode()
        raise DataError(
            f"{shown}: the file's name is not UTF-8, so it cannot be written down; rename it"
        ) from None
