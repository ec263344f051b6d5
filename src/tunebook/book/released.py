"""Whether a released folder is still what was released: by its manifest, and by the run's record.

The manifest lies in the folder, so that it tells accidents and not intent: whoever changes a file
can write it anew. The record lies in the run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunebook.book.checkpoints import MANIFEST, read_manifest
from tunebook.book.places import RunFolder, list_runs
from tunebook.book.releases import Release, read_releases
from tunebook.errors import CheckpointError, ReleaseTampered, UsageError
from tunebook.regular import open_regular

# What the hub, its client and git put beside released files; none of it is loaded with them.
_OF_THE_HUB = (".gitattributes", ".cache", ".git")
_TELLING = (".safetensors", ".gguf", "README.md")
_AGAIN = "take it from where it was released, or release again"


@dataclass(frozen=True, slots=True)
class Checked:
    """A released folder whose files are those of its manifest.

    `files` has their sha256 by name, and `release` the record of the run that released them; None
    where no record was found.
    """

    files: Mapping[str, str]
    total_bytes: int
    release: Release | None = None


def check_folder(folder: Path) -> Checked:
    """Hold every file of a folder against its manifest.

    Raises ReleaseTampered naming the first file that changed, is missing, or was not released;
    UsageError when there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; name one that `tunebook release` wrote")
    try:
        manifest = read_manifest(folder)
    except CheckpointError as error:
        raise ReleaseTampered(f"{error}; {_AGAIN}") from None
    wrong = [*_wrong_files(folder, manifest), *_added_files(folder, manifest)]
    if wrong:
        raise ReleaseTampered(_first_of(wrong))
    files = {name: str(facts["sha256"]) for name, facts in manifest.items()}
    return Checked(files, sum(int(facts["size"]) for facts in manifest.values()))


def _wrong_files(folder: Path, manifest: Mapping[str, Mapping[str, object]]) -> Iterable[str]:
    for name, facts in manifest.items():
        path = folder / name
        try:
            with open_regular(path) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            yield f"{path} is missing, and was released with the others; {_AGAIN}"
        except OSError as error:
            yield f"{path} cannot be read: {error.strerror}; {_AGAIN}"
        else:
            if digest != facts["sha256"]:
                yield f"{path} is not what was released: its bytes changed since; {_AGAIN}"


def _added_files(folder: Path, manifest: Mapping[str, object]) -> Iterable[str]:
    for parent, folders, names in os.walk(folder):
        inside = Path(parent).relative_to(folder)
        if inside == Path():
            folders[:] = [name for name in folders if name not in _OF_THE_HUB]
            names = [name for name in names if name not in (*_OF_THE_HUB, MANIFEST)]
        # A link to a folder is not walked into, and is one thing more than was released.
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted((*names, *links)):
            if (inside / name).as_posix() not in manifest:
                yield f"{Path(parent) / name} was not released; take it out of the folder"


def _first_of(wrong: list[str]) -> str:
    head, _, way_out = wrong[0].partition("; ")
    return f"{head}{_and_more(wrong)}; {way_out}"


def _and_more(wrong: list[str]) -> str:
    more = len(wrong) - 1
    return "" if not more else f" (and {more} {'file' if more == 1 else 'files'} more)"


def find_record(
    folder: Path, files: Mapping[str, str], book: Path, run: RunFolder | None
) -> Release | None:
    """Find the record of the run that released these files; None when no run of the book did.

    With a `run`, only its own releases count. Raises ReleaseTampered where a record is of this
    folder or of some of these files and says otherwise of the rest.
    """
    runs = list_runs(book) if run is None else [run]
    records = [record for each in runs for record in reversed(read_releases(each))]
    for record in records:
        if record.files == files:
            return record
    here = folder.resolve()
    related = [r for r in records if (book / r.to).resolve() == here or _shares(r.files, files)]
    if run is not None:
        related = related or records
        if not related:
            raise ReleaseTampered(
                f"run {run.name} has no record of a release, so {folder} is none of its own; name "
                "the run that released it"
            )
    if not related:
        return None
    raise ReleaseTampered(_difference(folder, files, related[0]))


def _shares(then: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Tell whether weights or the card are the same; tokenizers are those of many runs."""
    return any(name.endswith(_TELLING) and now.get(name) == then[name] for name in then)


def _difference(folder: Path, now: Mapping[str, str], record: Release) -> str:
    then = record.files
    changed = sorted(name for name in then if name in now and now[name] != then[name])
    missing = sorted(then.keys() - now.keys())
    added = sorted(now.keys() - then.keys())
    wrong = [
        *(f"{folder / name} has other bytes" for name in changed),
        *(f"{folder / name} is missing" for name in missing),
        *(f"{folder / name} was added" for name in added),
    ]
    return (
        f"by the record of run {record.run} (released {record.released}) {wrong[0]}"
        f"{_and_more(wrong)}, and the manifest was written anew; {_AGAIN}"
    )
