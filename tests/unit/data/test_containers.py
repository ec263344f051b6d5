"""A file of another kind under the name of a text is told by its first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from tunebook.data.rows import read_rows
from tunebook.data.sources import locate
from tunebook.errors import DataError

ROWS = b'{"text": "a"}\n' * 20


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("rows.jsonl", ROWS)
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        packed.addfile(tarfile.TarInfo("rows.jsonl"), io.BytesIO(ROWS))
    return out.getvalue()


def read(path: Path) -> list[object]:
    return [row.values for file in locate(str(path)).files for row in read_rows(file)]


@pytest.mark.parametrize(
    ("name", "raw", "sentence"),
    [
        ("g.txt", gzip.compress(ROWS), r"is gzip by its first bytes: name it g\.txt\.gz"),
        ("g.jsonl", gzip.compress(ROWS), r"is gzip by its first bytes: name it g\.jsonl\.gz"),
        ("g.jsonl.zst", gzip.compress(ROWS), r"is gzip by .*: name it g\.jsonl\.gz"),
        ("g.jsonl.gz", gzip.compress(gzip.compress(ROWS)), r"gzip .* inside its \.gz: unpack it"),
        ("z.csv", zstandard.compress(ROWS), r"is zstandard by .*: name it z\.csv\.zst"),
        ("z.jsonl", zipped(), r"is a zip archive .*: unpack it first"),
        ("z.jsonl.gz", zipped(), r"is a zip archive .*: unpack it first"),
        ("t.json", tarred(), r"is a tar archive .*: unpack it first"),
        ("t.jsonl.gz", gzip.compress(tarred()), r"is a tar archive .* inside its \.gz: unpack it"),
        ("t.jsonl.zst", zstandard.compress(tarred()), r"is a tar archive .* inside its \.zst"),
        ("b.txt", bz2.compress(ROWS), r"is bzip2 .*: unpack it first"),
        ("x.csv", lzma.compress(ROWS), r"is xz .*: unpack it first"),
        ("p.jsonl", b"PAR1" + ROWS, r"is parquet .*: name it p\.parquet"),
        ("p.txt", b"%PDF-1.7\nwords\n", r"is a PDF .*: save its text as \.txt"),
        ("e.jsonl", b"\x7fELF\x02\x01\x01" + b"\0" * 90, r"is a program \(ELF\)"),
    ],
    # An archive says when it was made, and the name of a test is to be the same in each process.
    ids=lambda given: given if isinstance(given, str) else "bytes",
)
def test_what_a_file_is_and_the_way_out_are_said(
    tmp_path: Path, name: str, raw: bytes, sentence: str
) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(DataError, match=sentence) as error:
        read(path)
    assert "iconv" not in str(error.value)
    assert "tr -d" not in str(error.value)
    assert name in str(error.value)


def test_text_that_begins_like_an_archive_is_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"BZh,PK\n1,2\n")
    assert read(path) == [{"BZh": "1", "PK": "2"}]
