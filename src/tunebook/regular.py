"""Opening what was named as a file, so that a pipe or a device can neither hang nor flood a reader.

A file of a stranger's book or data set may be a FIFO, and opening one waits for a writer for ever.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


class NotReadable(OSError):
    """What a name leads to is no file, or is larger than what is read; `strerror` says which."""


def open_regular(path: str | Path, most_bytes: int | None = None) -> BufferedReader:
    """Open a regular file to read its bytes; a link that leads to one is followed.

    Never waits. Raises NotReadable for a pipe, a socket or a device, and for a file of more than
    `most_bytes`; IsADirectoryError for a folder; OSError as `open` does for the rest.
    """
    # Without O_NONBLOCK the call itself would wait for somebody to write into a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _refuse_others(path, os.fstat(descriptor), most_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path, most_bytes: int | None = None) -> bytes:
    """Read a whole regular file, also one that grows meanwhile; raises what `open_regular` does."""
    with open_regular(path, most_bytes) as file:
        if most_bytes is None:
            return file.read()
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise _too_large(path, most_bytes)
    return data


def read_regular_text(path: str | Path, most_bytes: int | None = None) -> str:
    """Read a regular file as UTF-8 with a sign where a byte is none; line ends become newlines."""
    text = read_regular(path, most_bytes).decode("utf-8", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_regular(path: str | Path) -> bool:
    """Tell whether a name leads to a regular file; False where it cannot be asked."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def what_else(path: str | Path) -> str | None:
    """Say what a name leads to that is neither a file nor a folder; None where there is nothing.

    Opens nothing, so that it cannot wait.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link that leads back to itself"
        return f"a link to {os.readlink(path)}, where nothing is" if os.path.islink(path) else None
    except ValueError:
        return None
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_one, name in kinds if is_one(mode)), "a device")


def _refuse_others(path: str | Path, found: os.stat_result, most_bytes: int | None) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        what = "a pipe" if stat.S_ISFIFO(found.st_mode) else "a device or a socket"
        raise NotReadable(errno.EINVAL, f"it is {what}, not a file", str(path))
    if most_bytes is not None and found.st_size > most_bytes:
        raise _too_large(path, most_bytes)


def _too_large(path: str | Path, most_bytes: int) -> NotReadable:
    return NotReadable(errno.EFBIG, f"it has more than {most_bytes:,} bytes", str(path))
