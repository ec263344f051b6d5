"""Shut the running process in: no network, no program to start, no file to write but in one folder.

For a process that is about to read what a stranger wrote. It is started for that alone and ends
afterwards: nothing here can be taken back. Linux only; elsewhere the words say what is not there.
Nothing of this project is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_NEW_USER, _NEW_NET, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
# The same on every architecture, for they came after numbers were made common.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_NO_NEW_PRIVILEGES = 38
_DEATH_SIGNAL = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _DEVICE_CONTROL = 1 << 13, 1 << 14, 1 << 15
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_CONTROL
_CONNECT_AND_BIND = 0b11
_SIGNALS_AND_SOCKETS = 0b11


class _Ruleset(ctypes.Structure):
    """What landlock(7) is to rule: rights to files, to TCP, and what leaves the domain."""

    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    """Rights to whatever lies beneath an open folder, or to an open file."""

    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def leave_network() -> str | None:
    """Move this process into a network of its own, in which there is nothing.

    Only a process with one thread can. Gives why not, None when it is done.
    """
    if sys.platform != "linux":
        return f"{sys.platform} has no network namespaces"
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_USER | _NEW_NET | _NEW_IPC) != 0:
        return f"unshare: {os.strerror(ctypes.get_errno())}"
    # Its files stay its own without this; only the names of their owners would not.
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return None


def end_with(parent: int) -> None:
    """Have the kernel end this process with the one that started it, however that ends.

    To be asked again after a change of rights, which takes it back. Linux only.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_DEATH_SIGNAL, ctypes.c_ulong(signal.SIGKILL), *[ctypes.c_ulong(0)] * 3)
    if os.getppid() != parent:  # it ended before it was asked
        os._exit(1)


def keep_to_folders(write: Path, read: Sequence[Path]) -> bool:
    """Let this process write beneath one folder only, read beneath some, and start no program.

    Nor may it signal or trace any process outside. False where the kernel does not offer it
    (landlock, Linux 5.13).
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))
    if version < 1:
        return False
    every = _rights(version)
    asked = _Ruleset(
        every,
        _CONNECT_AND_BIND if version >= 4 else 0,
        _SIGNALS_AND_SOCKETS if version >= 6 else 0,
    )
    # An older kernel knows a shorter form of it.
    size = 8 if version < 4 else 16 if version < 6 else ctypes.sizeof(asked)
    ruleset = int(libc.syscall(_CREATE_RULESET, ctypes.byref(asked), ctypes.c_size_t(size), 0))
    if ruleset < 0:
        return False
    try:
        _allow(libc, ruleset, write, every & ~_EXECUTE)
        for path in read:
            _allow(libc, ruleset, path, _READ_FILE | _READ_DIR)
        nothing = [ctypes.c_ulong(0)] * 3
        if libc.prctl(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), *nothing) != 0:
            return False
        return int(libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))) == 0
    finally:
        os.close(ruleset)


def _rights(version: int) -> int:
    """Give all rights to files that a kernel's landlock knows."""
    every = (1 << 13) - 1
    every |= _REFER if version >= 2 else 0
    every |= _TRUNCATE if version >= 3 else 0
    return every | (_DEVICE_CONTROL if version >= 5 else 0)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    """Add a rule; what is not there needs none."""
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _Beneath(rights if path.is_dir() else rights & _OF_A_FILE, opened)
        libc.syscall(
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_PATH_BENEATH),
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(opened)


def limit(cpu_seconds: int, memory_bytes: int, file_bytes: int) -> None:
    """Bound this process's time, memory, files and their size, as far as the system can."""
    try:
        import resource
    except ImportError:
        return
    for kind, most in (
        ("RLIMIT_CPU", cpu_seconds),
        ("RLIMIT_DATA", memory_bytes),
        ("RLIMIT_FSIZE", file_bytes),
        ("RLIMIT_NOFILE", 256),
        ("RLIMIT_CORE", 0),
    ):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            resource.setrlimit(getattr(resource, kind), (most, most))
