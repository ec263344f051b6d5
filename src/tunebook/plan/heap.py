"""How much memory the C library takes for a sequence of tensors, holes included.

Resident memory is more than the tensors: what lies between them stays taken. So the very sequence
of allocations is played to the very allocator with the settings that training has, in a process of
its own and without touching a byte of them.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from array import array
from collections.abc import Mapping, Sequence

_ALIGNMENT = 64  # of every tensor that torch makes on a CPU


def heap_bytes(events: Sequence[int], settings: Mapping[str, str]) -> int | None:
    """Give what the heap grows to over `LiveBytes.events`; None where this cannot be found out.

    `settings` are the environment variables of the training process. Only the C library of GNU
    tells the size of its heap.
    """
    if platform.libc_ver()[0] != "glibc":
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", __file__],
            input=array("q", events).tobytes(),
            env={**os.environ, **settings},
            capture_output=True,
            check=True,
            timeout=60,
        )
        return int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


class _Info(ctypes.Structure):
    """`struct mallinfo2` of malloc.h."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "a", "b", "c", "mapped")] + [
        (name, ctypes.c_size_t) for name in ("d", "e", "f", "g", "h")
    ]


def _play(events: array[int]) -> int:
    """Allocate and free in this process, and give the most its heap was."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Info
    libc.free.argtypes = [ctypes.c_void_p]
    align, free = libc.posix_memalign, libc.free
    align.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]
    begun = libc.mallinfo2()
    places: list[int | None] = [None]
    place = ctypes.c_void_p()
    most = 0
    for i, event in enumerate(events):
        if event >= 0:
            if align(ctypes.byref(place), _ALIGNMENT, max(event, 1)):
                raise MemoryError(event)
            places.append(place.value)
        else:
            free(places[-event])
        # Memory that is mapped apart comes and goes; the heap only grows.
        if event > 1 << 20 or i % 64 == 0:
            now = libc.mallinfo2()
            most = max(most, now.arena + now.mapped)
    return int(most - begun.arena - begun.mapped)


if __name__ == "__main__":
    sequence = array("q")
    sequence.frombytes(sys.stdin.buffer.read())
    print(_play(sequence))
