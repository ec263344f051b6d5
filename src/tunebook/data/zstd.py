"""Unpack Zstandard files as a stream, and notice when the end is missing."""

from __future__ import annotations

import io
from typing import IO

import zstandard

_PIECE_BYTES = 1024
"""What is unpacked at once. Four bytes can stand for 128 KiB, so this for 32 MiB at the most."""


class ZstdStream(io.RawIOBase):
    """What one or more frames unpack to, in bounded memory however far they unpack.

    The library's own reader takes a file that was cut off for a shorter one; this raises EOFError.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._library = zstandard.ZstdDecompressor()
        self._frame = self._library.decompressobj()
        self._in_frame = False
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer; 0 at the end of the last frame."""
        while not self._left:
            piece = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = self._library.decompressobj()
                self._in_frame = False
            piece = piece or self._packed.read(_PIECE_BYTES)
            if not piece:
                if self._in_frame:
                    raise EOFError("it ends before its last frame does")
                return 0
            self._in_frame = True
            self._left = memoryview(self._frame.decompress(piece))
        n = min(len(buffer), len(self._left))
        buffer[:n], self._left = self._left[:n], self._left[n:]
        return n
