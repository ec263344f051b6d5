"""A small packed file that unpacks to very much takes little memory, and is refused in a sentence.

Each is read in a process of its own, whose peak of memory is measured.
"""

from __future__ import annotations

import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import zstandard

from tunebook.data.zstd import ZstdStream

ROW = 1 << 30
MIB = 1 << 20
# Peak of this process above what its imports took, in MiB, and what reading the rows came to.
READ = """
import resource, sys
from pathlib import Path
from tunebook.data.rows import read_rows
from tunebook.data.sources import locate
from tunebook.errors import DataError

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    said = str(sum(1 for file in locate(sys.argv[1]).files for _ in read_rows(file)))
except DataError as error:
    said = str(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, said)
"""


def write_bomb(path: Path, *, level: int) -> Path:
    """Write one row of 2^30 zeros, packed."""
    if path.suffix == ".gz":
        packer = zlib.compressobj(level, wbits=31)
    else:
        packer = zstandard.ZstdCompressor(level=level).compressobj()
    zeros = b"0" * MIB
    with path.open("wb") as out:
        out.write(packer.compress(b'{"text": "'))
        for _ in range(ROW // MIB):
            out.write(packer.compress(zeros))
        out.write(packer.compress(b'"}\n') + packer.flush())
    return path


@pytest.mark.parametrize("name", ["b.jsonl.zst", "b.jsonl.gz"])
def test_a_row_of_a_gigabyte_in_a_small_file_is_refused_in_little_memory(
    tmp_path: Path, name: str
) -> None:
    bomb = write_bomb(tmp_path / name, level=1)
    assert bomb.stat().st_size < 8 * MIB
    done = subprocess.run(
        [sys.executable, "-c", READ, str(bomb)], capture_output=True, text=True, check=True
    )
    grown, _, said = done.stdout.partition(" ")
    assert "line 1 is over 64 MiB" in said
    # A row may be 64 MiB, and is held in pieces and then whole.
    assert int(grown) < 300


def test_a_megabyte_of_frames_that_hold_nothing_is_read_soon(tmp_path: Path) -> None:
    frames = zstandard.compress(b"") * 100_000 + zstandard.compress(b"end")
    path = tmp_path / "e.zst"
    path.write_bytes(frames)
    with path.open("rb") as packed:
        assert ZstdStream(packed).readall() == b"end"


@pytest.mark.parametrize("cut", [1, 2, 5, 700, 1023, 1024, 1025])
def test_a_frame_without_its_end_is_told_wherever_it_was_cut(tmp_path: Path, cut: int) -> None:
    whole = zstandard.compress(random.Random(1).randbytes(9000))
    path = tmp_path / "c.zst"
    path.write_bytes(whole + whole[:-cut])
    with path.open("rb") as packed, pytest.raises(EOFError, match="before its last frame"):
        ZstdStream(packed).readall()
