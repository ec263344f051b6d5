"""Find the files of a source and read them as strict UTF-8, compressed or not."""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal, Protocol

import zstandard

from tunebook.data.hub import fetch_hub_data
from tunebook.data.zstd import ZstdStream
from tunebook.errors import DataError
from tunebook.recipe.hub_path import HUB_PREFIX, may_be_hub_data
from tunebook.units import format_count

Kind = Literal["json", "jsonl", "csv", "tsv", "parquet", "arrow", "pgn", "text"]

_KINDS: dict[str, Kind] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
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
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_PGN_BEGINS = b"[Event "
_BLOCK_BYTES = 1024 * 1024
_HASHED_BYTES = 64 * 1024 * 1024
_LOOKED_AT_BYTES = 4096


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
    """Find the files of a file name, a folder, a glob or a data set of the hub.

    Raises DataError when there is none, or they are of unknown or different kinds.
    """
    if _is_hub_data(path):
        data = fetch_hub_data(path)
        cached = [SourceFile(file, file.stem, "arrow") for file in data.files]
        return Located(data.name, path, "arrow", tuple(cached))
    files = _find_files(path)
    kinds = {file.kind for file in files}
    if len(kinds) > 1:
        raise DataError(
            f"{path} holds files of different kinds ({', '.join(sorted(kinds))}); give each kind "
            f"as a source of its own, such as {path.rstrip('/')}/*.jsonl"
        )
    whole = Path(path)
    if whole.is_file():
        name = _stem(whole)
    elif whole.is_dir():
        name = whole.name
    else:
        name = files[0].label if len(files) == 1 else Path(_fixed_part(path)).name
    return Located(name or "data", path, files[0].kind, tuple(files))


def _is_hub_data(path: str) -> bool:
    return path.startswith(HUB_PREFIX) or (may_be_hub_data(path) and not Path(path).exists())


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
    """Tell the kind of a file by its ending; a text that begins as a game of chess is one."""
    kind = _KINDS.get(_ending(path))
    if kind == "text" and path.is_file() and _begins_as_pgn(path):
        return "pgn"
    if kind is None:
        raise DataError(
            f"{path}: unknown kind of file {_ending(path) or 'without an ending'!r}; tunebook "
            f"reads {_known_endings()}"
        )
    return kind


def _begins_as_pgn(path: Path) -> bool:
    with _opened(path) as stream:
        head = stream.read(_LOOKED_AT_BYTES)
    return head.removeprefix(_BOM).lstrip().startswith(_PGN_BEGINS)


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
    """Hash the names and bytes of all files of a source, its blocks by several threads."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor(4) as pool:
        for file in located.files:
            with explained(file.path):
                size = file.path.stat().st_size
                digest.update(f"{file.label}\0{size}\0".encode())
                starts = range(0, size, _HASHED_BYTES)
                for block in pool.map(partial(_hash_block, file.path), starts):
                    digest.update(block)
    return digest.hexdigest()


def _hash_block(path: Path, start: int) -> bytes:
    digest = hashlib.sha256()
    left = _HASHED_BYTES
    with path.open("rb") as stream:
        stream.seek(start)
        while left and (block := stream.read(min(left, _BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
    return digest.digest()


@contextmanager
def explained(path: Path) -> Iterator[None]:
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
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    with explained(path), path.open("rb") as raw:
        ending = path.suffix.lower()
        if ending == ".gz":
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield io.BufferedReader(unpacked, _BLOCK_BYTES)
        elif ending == ".zst":
            yield io.BufferedReader(ZstdStream(raw), _BLOCK_BYTES)
        else:
            yield raw


def read_lines(file: SourceFile) -> Iterator[tuple[int, str]]:
    """Yield line numbers from 1 and lines with their ends, a byte order mark left out.

    Raises DataError when the file is empty, is not UTF-8, holds a NUL byte, or has a line over
    64 MiB.
    """
    with _opened(file.path) as stream:
        if not stream.peek(1):
            raise is_empty(file.path)
        raws = iter(partial(stream.readline, MAX_ROW_BYTES + 1), b"")
        yield from decode_lines(file.path, raws)


def decode_lines(
    path: Path, raws: Iterable[bytes], *, first_line: int = 1, first_byte: int = 0
) -> Iterator[tuple[int, str]]:
    """Decode raw lines that begin at a line number and a byte of a file.

    Raises DataError when one is not UTF-8, holds a NUL byte, or is over 64 MiB.
    """
    offset = first_byte
    for number, raw in enumerate(raws, start=first_line):
        if raw == b"\n":  # files may hold millions of blank lines
            offset += 1
            yield number, "\n"
            continue
        if len(raw) > MAX_ROW_BYTES:
            raise DataError(f"{path}: line {number} is over 64 MiB; split it")
        body = raw[len(_BOM) :] if offset == 0 and raw.startswith(_BOM) else raw
        before = offset + len(raw) - len(body)
        try:
            line = body.decode("utf-8")
        except UnicodeDecodeError as error:
            utf16 = offset == 0 and raw.startswith(_UTF16)
            raise _not_utf8(path, number, before + error.start, body[error.start], utf16) from None
        if "\0" in line:
            raise _has_nul(path, number, before + body.index(b"\0"))
        offset += len(raw)
        yield number, line


class Readable(Protocol):
    """What gives bytes until there are none."""

    def read(self, size: int) -> bytes:
        """Read at most so many bytes."""
        ...


class _CheckedUtf8:
    """Passes a stream's bytes on and raises DataError at the first that is not UTF-8, or NUL."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path, self._stream = path, stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line, self._byte = 1, 0
        self._first = True

    def read(self, size: int) -> bytes:
        """Read at most so many bytes."""
        block = self._stream.read(size)
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at = error.start - pending
            utf16 = self._byte == 0 and block.startswith(_UTF16)
            line = self._line + block.count(b"\n", 0, max(at, 0))
            byte = error.object[error.start]
            raise _not_utf8(self._path, line, self._byte + at, byte, utf16) from None
        if (nul := block.find(b"\0")) >= 0:
            line = self._line + block.count(b"\n", 0, nul)
            raise _has_nul(self._path, line, self._byte + nul)
        self._line += block.count(b"\n")
        self._byte += len(block)
        if self._first:
            self._first = False
            return block.removeprefix(_BOM)
        return block


@contextmanager
def open_checked(path: Path) -> Iterator[Readable]:
    """Open a file, unpacked, as bytes that are checked to be UTF-8, a byte order mark left out."""
    with _opened(path) as stream:
        yield _CheckedUtf8(path, stream)


def _not_utf8(path: Path, line: int, offset: int, byte: int, utf16: bool) -> DataError:
    found = "the byte order mark of UTF-16, " if utf16 else ""
    return DataError(
        f"{path} is not UTF-8: line {line}, byte {offset} is {found}0x{byte:02x}; save it as "
        f"UTF-8, for example with `iconv -f {'utf-16' if utf16 else 'latin1'} -t utf-8`"
    )


def _has_nul(path: Path, line: int, offset: int) -> DataError:
    return DataError(
        f"{path} is no text: line {line}, byte {offset} is NUL; if it is UTF-16 save it as UTF-8, "
        "else take the byte out, for example with `tr -d '\\000'`"
    )


def is_empty(path: Path) -> DataError:
    """Write the error of a file without content."""
    return DataError(f"{path} is empty; put rows into it or leave it out")


def all_blank(path: Path, n_lines: int) -> DataError:
    """Write the error of a file that has only blank lines."""
    return DataError(
        f"{path} is empty: its {format_count(n_lines)} lines are blank; put rows into it or leave "
        "it out"
    )
