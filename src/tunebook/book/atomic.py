"""Writing that is whole or not there, and a full disk said in one sentence."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from tunebook.book.writing import make_folder
from tunebook.errors import StorageError
from tunebook.regular import NotReadable, what_else
from tunebook.units import format_bytes

PATIENCE_SECONDS = 30.0
"""How long `alone` waits; only a process that was halted keeps a lock for so long."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}
_ANOTHER_KIND = {errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EEXIST}
_GONE = {errno.ENOENT, errno.ESTALE}
_SHOWN = 80  # characters of either end of a path that is too long
_OS_ERROR = re.compile(r"os error (\d+)")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file in one step; a crash leaves the old one or the new one.

    Raises StorageError when the disk is full or the folder is not writable.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with (
        storage_errors(f"write {path}", path.parent, needs_bytes=len(data)),
        _put_together([path]) as (file,),
    ):
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step."""
    write_atomically(path, text)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Keep out everyone else, process or thread, who takes the same lock file.

    For work of milliseconds: whoever comes second waits. The folder of the lock lies in the book
    itself. Raises StorageError when it cannot be written, or another held the lock for
    `PATIENCE_SECONDS`; BookError where the folder is a link.
    """
    from filelock import FileLock, Timeout

    with storage_errors(f"write {lock.parent}", lock.parent):
        make_folder(lock.parent.parent, lock.parent)
        held = FileLock(lock)
        try:
            held.acquire(PATIENCE_SECONDS, poll_interval=0.01)
        except Timeout:
            raise StorageError(
                f"another process has held {lock} for {PATIENCE_SECONDS:.0f} s; let it go on, or "
                "end it"
            ) from None
    try:
        yield
    finally:
        held.release()


@contextmanager
def files_aside(paths: Sequence[Path]) -> Iterator[Sequence[IO[bytes]]]:
    """Open files beside their names; at the end of the block all are put in place, durable.

    When the block raises, none is, and nothing is left of them. Raises StorageError when the disk
    is full or a folder is not writable.
    """
    if not paths:
        yield []
        return
    what = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files such as {paths[0].name}"
    try:
        with storage_errors(f"write {what}", paths[0].parent), _put_together(paths) as files:
            yield files
    except OSError as error:
        raise StorageError(f"cannot write {what}: {error.strerror}; name another place") from error


@contextmanager
def _put_together(paths: Sequence[Path]) -> Iterator[Sequence[IO[bytes]]]:
    # Names that nobody can foresee, so that no link waits under one; of threads too.
    own = f"{os.getpid()}-{secrets.token_hex(4)}"
    asides = [path.with_name(f".{path.name}.{own}") for path in paths]
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(open(aside, "xb")) for aside in asides]
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        for aside, path in zip(asides, paths, strict=True):
            os.replace(aside, path)
    except BaseException:
        for aside in asides:
            aside.unlink(missing_ok=True)
        raise
    for folder in dict.fromkeys(path.parent for path in paths):
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, or what a file of another process holds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(
    doing: str, folder: Path, *, needs_bytes: int | None = None, way_out: str = "free space"
) -> Iterator[None]:
    """Turn a full or unwritable disk into a StorageError that says what and where."""
    try:
        yield
    except Exception as error:
        sentence = describe_storage_error(error, doing, folder, needs_bytes, way_out)
        if sentence is None:
            raise
        raise StorageError(sentence) from error


def describe_storage_error(
    error: BaseException, doing: str, folder: Path, needs_bytes: int | None, way_out: str
) -> str | None:
    """Say in one sentence what the disk refused, or None for any other error."""
    number = storage_errno(error)
    if number in _NO_SPACE:
        reason = "the disk is full" if number == errno.ENOSPC else "the disk quota is used up"
        needs = "" if needs_bytes is None else f" needs {format_bytes(needs_bytes)},"
        return f"{reason}: cannot {doing};{needs} {_free(folder)} free; {way_out}"
    if number in _NO_ACCESS:
        reason = "is read-only" if number == errno.EROFS else "is not writable"
        return f"the folder {folder} {reason}: cannot {doing}; make it writable"
    if number == errno.ENAMETOOLONG:
        shown = os.fsdecode(getattr(error, "filename", None) or folder)
        if len(shown) > 2 * _SHOWN:
            shown = f"{shown[:_SHOWN]}...{shown[-_SHOWN:]}"
        return f"the path {shown} is too long for this system; choose a shorter one"
    return None


def describe_any_disk(error: BaseException) -> str | None:
    """Say in one sentence what a disk did where nobody expected it, or None for a bug.

    The last net of a command: whoever knows what was being written says more.
    """
    number = storage_errno(error)
    named = getattr(error, "filename", None)
    if isinstance(error, NotReadable):
        return f"{named} cannot be read: {error.strerror}; take it away, or name another"
    what = os.fsdecode(named) if isinstance(named, (str, bytes, os.PathLike)) else "a file"
    folder = Path(what).parent if named else Path(os.curdir)
    if number is None and "database or disk is full" in str(error):  # sqlite's own words
        return f"the disk is full: cannot write the index; {_free(folder)} free; free space"
    if number in {*_NO_SPACE, *_NO_ACCESS, errno.ENAMETOOLONG}:
        return describe_storage_error(error, f"write {what}", folder, None, "free space")
    if number in _ANOTHER_KIND:
        return _in_the_way(error, number, what)
    if number in _GONE:
        gone = what if named else "the folder this was started in"
        return f"{gone} is not there; was it moved or deleted meanwhile?"
    if number in (errno.EMFILE, errno.ENFILE):
        return f"cannot open {what}: {os.strerror(number)}; close programs, or raise `ulimit -n`"
    if number == errno.EIO:
        return f"cannot use {what}: {os.strerror(number)}; the disk itself may be broken"
    return None


def _in_the_way(error: BaseException, number: int, what: str) -> str | None:
    """Say what stands where something else has to be."""
    if number == errno.ENOTDIR:
        return f"{what} cannot be there: a file stands where its path has a folder; take it away"
    if number == errno.ELOOP:
        looped = what_else(what) == "a link that leads back to itself"
        if looped or not os.path.islink(what):
            return f"{what} is a link that leads to itself; take it away, or name another"
        return f"{what} is a link to {os.readlink(what)}, which is not followed; take it away"
    replaced = getattr(error, "filename2", None)  # what could not be put in its place
    what = what if replaced is None else os.fsdecode(replaced)
    if replaced is None and not getattr(error, "filename", None):
        return None
    is_folder = number == errno.EISDIR or os.path.isdir(what)
    kinds = ("a folder", "a file") if is_folder else ("no folder", "one")
    return f"{what} is {kinds[0]}, and has to be {kinds[1]}; take it away"


def storage_errno(error: BaseException) -> int | None:
    """Read the operating system's error number, also from libraries that only put it in words.

    safetensors raises its own class with `(os error 28)` in the message.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found.group(1)) if found else None


def _free(folder: Path) -> str:
    try:
        return format_bytes(shutil.disk_usage(folder).free)
    except OSError:
        return "unknown"


def free_bytes(folder: Path) -> int:
    """Give what is free on the volume of a folder, which need not be there yet.

    A link counts as what it leads to. Raises OSError when the volume cannot be asked.
    """
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def folder_bytes(folder: Path) -> int:
    """Sum the sizes of all files in a folder; files that vanish meanwhile count nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total
