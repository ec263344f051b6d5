"""Find the files of a source and read them as strict UTF-8, compressed or not."""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import zstandard

from tunebook.errors import DataError

Kind = Literal["json", "jsonl", "pgn", "text"]

_KINDS: dict[str, Kind] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".pgn": "pgn",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
_COMPRESSED = (".gz", ".zst")
# A README.md beside the data is no data; name it, or glob for it, to read it.
_NOT_IN_FOLDERS = (".md",)
MAX_ROW_BYTES = 64 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file; `label` is its name inside the source, without the endings that say its kind."""

    path: Path
    label: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Located:
    """The files a path stands for, sorted by name; all are of one kind."""

    name: str
    path: str
    kind: Kind
    files: tuple[SourceFile, ...]


def locate(path: str) -> Located:
    """Find the files of a file name, a folder or a glob.

    Raises DataError when there is none, or they are of unknown or different kinds.
    """
    files = _find_files(path)
    kinds = {file.kind for file in files}
    if len(kinds) > 1:
        raise DataError(
            f"{path} holds files of different kinds ({', '.join(sorted(kinds))}); give each kind "
            f"as a source of its own, such as {path.rstrip('/')}/*.jsonl"
        )
    whole = Path(path)
    name = _stem(whole) if whole.is_file() else (whole.name if whole.is_dir() else files[0].label)
    return Located(name or "data", path, files[0].kind, tuple(files))


def _find_files(path: str) -> list[SourceFile]:
    whole = Path(path).expanduser()
    if whole.is_file():
        return [SourceFile(whole, _stem(whole), _kind_of(whole))]
    if whole.is_dir():
        inside = sorted(p for p in whole.rglob("*") if p.is_file() and _is_data(p, whole))
        if not inside:
            raise DataError(f"folder {path} holds no data file; tunebook reads {_known_endings()}")
        return [SourceFile(p, _label(p, whole), _kind_of(p)) for p in inside]
    if any(sign in path for sign in "*?["):
        found = [Path(p) for p in glob.glob(str(whole), recursive=True)]
        inside = sorted(p for p in found if p.is_file())
        if not inside:
            raise DataError(f"no file matches {path}; look at the pattern or name the file")
        root = Path(_fixed_part(str(whole)))
        return [SourceFile(p, _label(p, root), _kind_of(p)) for p in inside]
    raise DataError(
        f"there is no data file {path}; look at the path, it counts from {_here(whole)}"
    )


def _here(path: Path) -> str:
    return "the root" if path.is_absolute() else f"the folder {Path.cwd()}"


def _fixed_part(pattern: str) -> str:
    fixed: list[str] = []
    for part in Path(pattern).parts:
        if any(sign in part for sign in "*?["):
            break
        fixed.append(part)
    return str(Path(*fixed)) if fixed else "."


def _is_data(path: Path, root: Path) -> bool:
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        return False
    ending = _ending(path)
    return ending in _KINDS and ending not in _NOT_IN_FOLDERS


def _ending(path: Path) -> str:
    bare = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    return bare.suffix.lower()


def _kind_of(path: Path) -> Kind:
    kind = _KINDS.get(_ending(path))
    if kind is None:
        raise DataError(
            f"{path}: unknown kind of file {_ending(path) or 'without an ending'!r}; tunebook "
            f"reads {_known_endings()}"
        )
    return kind


def _known_endings() -> str:
    return f"{', '.join(_KINDS)}, each also with .gz or .zst"


def _stem(path: Path) -> str:
    bare = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    return bare.with_suffix("").name if bare.suffix.lower() in _KINDS else bare.name


def _label(path: Path, root: Path) -> str:
    try:
        folder = path.parent.relative_to(root)
    except ValueError:
        folder = Path(".")
    return (folder / _stem(path)).as_posix()


def hash_files(located: Located) -> str:
    """Hash the names and bytes of all files of a source."""
    digest = hashlib.sha256()
    for file in located.files:
        digest.update(f"{file.label}\0{file.path.stat().st_size}\0".encode())
        with _explained(file.path), file.path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what a file system or a damaged archive raises into a sentence."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise DataError(
            f"{path} is damaged or no {path.suffix} archive ({error}); copy it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with _explained(path), path.open("rb") as raw:
        ending = path.suffix.lower()
        if ending == ".gz":
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield io.BufferedReader(unpacked, _BLOCK_BYTES)
        elif ending == ".zst":
            reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
            with io.BufferedReader(reader, _BLOCK_BYTES) as unpacked_zst:
                yield unpacked_zst
        else:
            yield raw


def read_lines(file: SourceFile) -> Iterator[tuple[int, str]]:
    """Yield line numbers from 1 and lines with their ends, a byte order mark left out.

    Raises DataError when the file is empty, is not UTF-8, or a line is over 64 MiB.
    """
    with _opened(file.path) as stream:
        raws = iter(lambda: stream.readline(MAX_ROW_BYTES + 1), b"")
        number = 0
        for number, line in decode_lines(file.path, raws):
            yield number, line
    if not number:
        raise _is_empty(file.path)


def decode_lines(
    path: Path, raws: Iterable[bytes], *, first_line: int = 1, first_byte: int = 0
) -> Iterator[tuple[int, str]]:
    """Decode raw lines that begin at a line number and a byte of a file.

    Raises DataError when one is not UTF-8 or over 64 MiB.
    """
    offset = first_byte
    for number, raw in enumerate(raws, start=first_line):
        if len(raw) > MAX_ROW_BYTES:
            raise DataError(f"{path}: line {number} is over 64 MiB; split it")
        body = raw[len(_BOM) :] if offset == 0 and raw.startswith(_BOM) else raw
        try:
            line = body.decode("utf-8")
        except UnicodeDecodeError as error:
            at = offset + len(raw) - len(body) + error.start
            raise _not_utf8(path, number, at, body[error.start]) from None
        offset += len(raw)
        yield number, line


def read_whole(file: SourceFile) -> bytes:
    """Read a whole file as checked UTF-8 bytes, a byte order mark left out."""
    with _opened(file.path) as stream:
        raw = stream.read()
    if not raw.strip():
        raise _is_empty(file.path)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _not_utf8(file.path, line, error.start, raw[error.start]) from None
    return raw.removeprefix(_BOM)


def _not_utf8(path: Path, line: int, offset: int, byte: int) -> DataError:
    return DataError(
        f"{path} is not UTF-8: line {line}, byte {offset} is 0x{byte:02x}; save it as UTF-8, for "
        f"example with `iconv -f latin1 -t utf-8`"
    )


def _is_empty(path: Path) -> DataError:
    return DataError(f"{path} is empty; put rows into it or leave it out")
