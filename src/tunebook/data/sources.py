"""Find the files of a source and read them as strict UTF-8, compressed or not."""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal, Protocol

import zstandard

from tunebook.data.bad_files import (
    has_nul,
    is_empty,
    is_missing,
    not_utf8,
)
from tunebook.data.containers import LOOKED_AT_BYTES, refuse_container
from tunebook.data.hub import fetch_hub_data
from tunebook.data.zstd import ZstdStream
from tunebook.errors import DataError, refuse_unwritable_name
from tunebook.recipe.home import expand_home
from tunebook.recipe.hub_path import HUB_PREFIX, may_be_hub_data
from tunebook.recipe.tree import Recipe
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
_LEFT_OUT_SHOWN = 3


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file; `label` is its name inside the source, without the endings that say its kind."""

    path: Path
    label: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Located:
    """The files a path stands for, sorted by name; all are of one kind.

    `left_out` names what else is in a folder, hidden files aside.
    """

    name: str
    path: str
    kind: Kind
    files: tuple[SourceFile, ...]
    left_out: tuple[str, ...] = ()


def locate(path: str) -> Located:
    """Find the files of a file name, a folder, a glob or a data set of the hub.

    Raises DataError when there is none, or they are of unknown or different kinds.
    """
    if _is_hub_data(path):
        data = fetch_hub_data(path)
        cached = [SourceFile(file, file.stem, "arrow") for file in data.files]
        return Located(data.name, path, "arrow", tuple(cached))
    files, left_out = _find_files(path)
    for file in files:
        refuse_unwritable_name(file.path)
    kinds = {file.kind for file in files}
    if len(kinds) > 1:
        raise DataError(
            f"{path} holds files of different kinds ({', '.join(sorted(kinds))}); give each kind "
            f"as a source of its own, such as {path.rstrip('/')}/*.jsonl"
        )
    whole = expand_home(path)
    if whole.is_file():
        name = _stem(whole)
    elif whole.is_dir():
        name = whole.name
    else:
        name = files[0].label if len(files) == 1 else Path(_fixed_part(path)).name
    return Located(name or "data", path, files[0].kind, tuple(files), left_out)


def refuse_missing(recipe: Recipe) -> None:
    """Raise DataError where a source of a recipe leads nowhere; asks neither the hub nor torch."""
    paths = [source.path for source in recipe.data]
    for path in [*paths, *filter(None, [recipe.validation.path])]:
        if not _is_hub_data(path):
            _find_files(path)


def _is_hub_data(path: str) -> bool:
    return path.startswith(HUB_PREFIX) or (may_be_hub_data(path) and not Path(path).exists())


def _find_files(path: str) -> tuple[list[SourceFile], tuple[str, ...]]:
    """Find the files of a path, and name those in its folder that are not read."""
    whole = expand_home(path)
    with explained(whole):
        if whole.is_file():
            return [SourceFile(whole, _stem(whole), _kind_of(whole))], ()
        if whole.is_dir():
            every = sorted(p for p in whole.rglob("*") if p.is_file() and not _hidden(p, whole))
            inside = [p for p in every if _is_data(p)]
            if not inside:
                raise DataError(
                    f"folder {path} holds no data file; tunebook reads {_known_endings()}"
                )
            left = [p.relative_to(whole).as_posix() for p in every if not _is_data(p)]
            return _labelled(inside, whole), tuple(left)
        if any(sign in path for sign in "*?["):
            found = sorted(Path(p) for p in glob.glob(str(whole), recursive=True))
            inside = [p for p in found if p.is_file()]
            if not inside:
                raise DataError(f"no file matches {path}; look at the pattern or name the file")
            left = [f"{p.name}/" for p in found if p.is_dir() and "**" not in path]
            return _labelled(inside, Path(_fixed_part(str(whole)))), tuple(left)
    raise is_missing(path, whole)


def describe_files(located: Located) -> str | None:
    """Say how many files a folder or glob has, and what is left out; None for a file by name."""
    if expand_home(located.path) == located.files[0].path or located.kind == "arrow":
        return None
    n, left = len(located.files), located.left_out
    said = f"{format_count(n)} {'file is' if n == 1 else 'files are'} read"
    if not left:
        return said
    more = ", …" if len(left) > _LEFT_OUT_SHOWN else ""
    verb = "is" if len(left) == 1 else "are"
    shown = ", ".join(left[:_LEFT_OUT_SHOWN])
    return f"{said}, {format_count(len(left))} {verb} left out: {shown}{more}"


def _fixed_part(pattern: str) -> str:
    fixed: list[str] = []
    for part in Path(pattern).parts:
        if any(sign in part for sign in "*?["):
            break
        fixed.append(part)
    return str(Path(*fixed)) if fixed else "."


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _is_data(path: Path) -> bool:
    return (ending := _ending(path)) in _KINDS and ending not in _NOT_IN_FOLDERS


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


def _labelled(paths: list[Path], root: Path) -> list[SourceFile]:
    """Name files inside a folder; those that only their endings tell apart keep these."""
    labels = [_inside(path.with_name(_stem(path)), root) for path in paths]
    often = Counter(labels)
    return [
        SourceFile(path, label if often[label] == 1 else _inside(path, root), _kind_of(path))
        for path, label in zip(paths, labels, strict=True)
    ]


def _inside(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else Path(path.name)).as_posix()


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
        head = raw.peek(LOOKED_AT_BYTES)
        if ending not in _COMPRESSED:
            refuse_container(path, head)
            yield raw
        elif ending == ".gz":
            if not head.startswith(b"\x1f\x8b"):
                refuse_container(path, head)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield _looked_into(path, io.BufferedReader(unpacked, _BLOCK_BYTES))
        else:
            if not head.startswith(b"\x28\xb5\x2f\xfd"):
                refuse_container(path, head)
            yield _looked_into(path, io.BufferedReader(ZstdStream(raw), _BLOCK_BYTES))


def _looked_into(path: Path, stream: io.BufferedReader) -> io.BufferedReader:
    refuse_container(path, stream.peek(LOOKED_AT_BYTES), unpacked=True)
    return stream


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
            raise not_utf8(path, number, before + error.start, body[error.start], utf16) from None
        if "\0" in line:
            raise has_nul(path, number, before + body.index(b"\0"))
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
            raise not_utf8(self._path, line, self._byte + at, byte, utf16) from None
        if (nul := block.find(b"\0")) >= 0:
            line = self._line + block.count(b"\n", 0, nul)
            raise has_nul(self._path, line, self._byte + nul)
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
