"""Tell by its first bytes that a file is no text, whatever it is named, and what to do with it."""

from __future__ import annotations

from pathlib import Path

from tunebook.errors import DataError

LOOKED_AT_BYTES = 512
"""How much of a file is enough to know it: a tar says so behind its first name."""

_UNPACK = "unpack it first, and give the file that is in it"
_BEGINS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive (as .docx and .xlsx are)", _UNPACK),
    (b"PK\x05\x06", "an empty zip archive", "give a file with rows"),
    (b"BZh", "bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "xz", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (b"%PDF-", "a PDF", "save its text as .txt"),
    (b"\x7fELF", "a program (ELF)", "that is no data"),
    (b"SQLite format 3\x00", "an SQLite database", "export its rows as .csv or .jsonl"),
    (b"\x89PNG\r\n", "a picture (PNG)", "that is no text"),
    (b"\xff\xd8\xff", "a picture (JPEG)", "that is no text"),
)
_PACKED = ((b"\x1f\x8b\x08", "gzip", ".gz"), (b"\x28\xb5\x2f\xfd", "zstandard", ".zst"))
_TABLES = ((b"PAR1", "parquet", ".parquet"), (b"ARROW1\x00\x00", "arrow", ".arrow"))
_BZIP2_BLOCK = b"1AY&SY"
_TAR_AT = 257


def refuse_container(path: Path, head: bytes, *, unpacked: bool = False) -> None:
    """Raise DataError when the first bytes are those of an archive, a table or a program.

    `unpacked` says that they are of what a .gz or .zst holds.
    """
    if (found := _known(path, head, unpacked)) is not None:
        what, way_out = found
        inside = f" inside its {path.suffix}" if unpacked else ""
        raise DataError(f"{path} is {what} by its first bytes{inside}: {way_out}")


def _known(path: Path, head: bytes, unpacked: bool) -> tuple[str, str] | None:
    bare = path.with_suffix("") if path.suffix.lower() in (".gz", ".zst") else path
    for begin, what, ending in _PACKED:
        if head.startswith(begin):
            return what, "unpack it once" if unpacked else f"name it {bare.name}{ending}"
    for begin, what, ending in _TABLES:
        if head.startswith(begin):
            first = "unpack it, and " if unpacked else ""
            return what, f"{first}name it {Path(bare.name).with_suffix(ending)}"
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "a tar archive", _UNPACK
    for begin, what, way_out in _BEGINS:
        # Text may begin with these three letters; what is packed so, goes on with pi.
        if head.startswith(begin) and (begin != b"BZh" or head[4:10] == _BZIP2_BLOCK):
            return what, way_out
    return None
