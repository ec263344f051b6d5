"""What weights a folder holds, as one hash: how a run knows again what it was trained from.

Reading 14 GB takes seconds, so what was read is remembered beside the index, by path, size and
times of the file; a file that was written to since is read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from pathlib import Path

import orjson

from tunebook.book.atomic import write_atomically
from tunebook.book.checkpoints import read_manifest
from tunebook.book.writing import make_folder
from tunebook.errors import BookError, CheckpointError, ModelError, ParentMismatch, StorageError
from tunebook.regular import open_regular, read_regular

_CONFIGS = ("config.json", "adapter_config.json")
# A blob of the Hugging Face cache is named after its content: sha256 for large files.
_BLOB = re.compile(r"^[0-9a-f]{64}$")
# Times of files are coarse: one that was written just now may change without showing it.
_SETTLED_SECONDS = 2.0
_SHOWN = 12


def weights_hash(folder: Path, book: Path | None = None) -> str:
    """Give one sha256 for the weights of a model or adapter folder, by names and bytes.

    Counted are its safetensors but an optimizer's, and the config that says what they are for;
    tokenizers and other files are not. With a `book`, files it has read before are not read again
    unless they changed. Raises ModelError when there are no weights or they cannot be read.
    """
    known = _load(book) if book is not None else {}
    before = dict(known)
    files = {path.name: _content(path, known) for path in weight_files(folder)}
    if book is not None and known != before:
        _store(book, known)
    return hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """List the files that a folder's weights are in; ModelError when there are none."""
    files = [path for path in folder.glob("*") if _counts(path.name)]
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelError(f"{folder} holds no .safetensors weights; put them (back) there")
    return sorted(files)


def _counts(name: str) -> bool:
    of_weights = name.endswith(".safetensors") and not name.startswith("optimizer")
    return name in _CONFIGS or (of_weights and "/" not in name)


def verify_weights(folder: Path) -> None:
    """Read the weights of a checkpoint or `final/` anew and hold them against its manifest.

    Raises CheckpointError naming the file that is damaged or missing.
    """
    for name, facts in read_manifest(folder).items():
        if not _counts(name):
            continue
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing from the checkpoint")
        if _read(path) != facts["sha256"]:
            raise CheckpointError(f"{path} is damaged: its bytes changed since it was saved")


def refuse_other_weights(what: str, folder: Path | str, then: str, now: str, way_out: str) -> None:
    """Raise ParentMismatch unless two hashes are equal; `what` was made with the first."""
    if then != now:
        raise ParentMismatch(
            f"parent-mismatch: {what} was made with the weights {short(then)}, and {folder} now "
            f"holds {short(now)}; {way_out}"
        )


def short(content_hash: str) -> str:
    """Shorten a hash to what people compare."""
    return content_hash[:_SHOWN]


def _content(path: Path, known: dict[str, list[object]]) -> str:
    """Give the sha256 of a file, from what is known of it where it did not change."""
    real = path.resolve()
    if real.parent.name == "blobs" and _BLOB.match(real.name):
        return real.name
    try:
        stat = real.stat()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    # Whoever puts an old time on a file cannot put it on ctime.
    print_ = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    stored = known.get(str(real))
    if stored is not None and stored[:-1] == print_:
        return str(stored[-1])
    digest = _read(real)
    known.pop(str(real), None)
    if time.time() - max(stat.st_mtime, stat.st_ctime) > _SETTLED_SECONDS:
        known[str(real)] = [*print_, digest]
    return digest


def _read(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None


def _path(book: Path) -> Path:
    return book / ".tunebook" / "weights.json"


def _load(book: Path) -> dict[str, list[object]]:
    try:
        found = orjson.loads(read_regular(_path(book)))
    except (OSError, orjson.JSONDecodeError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, list) and len(v) == 5}


def _store(book: Path, known: dict[str, list[object]]) -> None:
    # What is not remembered is read again: a book that cannot be written to loses only time.
    with contextlib.suppress(OSError, StorageError, BookError):
        make_folder(book, _path(book).parent)
        write_atomically(_path(book), orjson.dumps(known, option=orjson.OPT_SORT_KEYS))
