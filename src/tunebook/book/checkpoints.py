"""Folders that are whole or not there: written aside, hashed, synced, then renamed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from tunebook.book.atomic import (
    describe_storage_error,
    folder_bytes,
    free_bytes,
    storage_errors,
    sync_folder,
)
from tunebook.book.inside import refuse_linked, refuse_linked_run
from tunebook.book.lineage import steps_started_from
from tunebook.book.liveness import process_alive
from tunebook.book.places import RunFolder
from tunebook.errors import CheckpointError, StorageError
from tunebook.regular import open_regular, read_regular
from tunebook.units import format_bytes

MANIFEST = "MANIFEST.json"
_STEP = re.compile(r"^step-(\d+)\Z")
_OLD = re.compile(r"^\.old-(.*)-\d+$")
_ASIDE = re.compile(r"^\.(?:tmp|old|trash)-.*-(\d+)$")


@contextmanager
def writing_checkpoint(run: RunFolder, step: int) -> Iterator[Path]:
    """Yield a folder to fill; on leaving it becomes `checkpoints/step-<step>`, or nothing at all.

    Raises StorageError when the disk is full or not writable; older checkpoints stay valid.
    """
    previous = list_checkpoints(run)
    expected = folder_bytes(previous[-1]) if previous else None
    target = run.checkpoints / f"step-{step}"
    way_out = f"free space and `tunebook resume {run.name}`"
    with _writing(target, f".tmp-{step}-{os.getpid()}", expected, way_out) as folder:
        yield folder


def refuse_without_room(run: RunFolder, step: int, needs_bytes: int) -> None:
    """Raise StorageError when the next checkpoint does not fit, before a byte of it is written."""
    free = free_bytes(run.checkpoints)
    if free >= needs_bytes:
        return
    kept = list_checkpoints(run)
    rest = f"{kept[-1].name} is whole" if kept else "there is none before it"
    raise StorageError(
        f"the disk is nearly full: step {step}'s checkpoint needs {format_bytes(needs_bytes)}, "
        f"{format_bytes(free)} free; {rest}: free space and `tunebook resume {run.name}`"
    )


@contextmanager
def writing_folder(target: Path) -> Iterator[Path]:
    """Yield a folder to fill that replaces `target` in one rename on leaving, such as `final/`."""
    expected = folder_bytes(target) if target.is_dir() else None
    aside = f".tmp-{target.name}-{os.getpid()}"
    with _writing(target, aside, expected, "free space and run the command again") as folder:
        yield folder


@contextmanager
def _writing(target: Path, aside: str, expected: int | None, way_out: str) -> Iterator[Path]:
    folder = target.parent / aside
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
        _write_manifest(folder)
        _put_in_place(folder, target)
    except BaseException as error:
        needs = max(expected or 0, folder_bytes(folder)) or None
        sentence = describe_storage_error(error, f"save {target}", target.parent, needs, way_out)
        shutil.rmtree(folder, ignore_errors=True)
        if sentence is None:
            raise
        raise StorageError(sentence) from error


def _write_manifest(folder: Path) -> None:
    files: dict[str, dict[str, object]] = {}
    folders = [folder]
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            folders.append(path)
            continue
        files[path.relative_to(folder).as_posix()] = {
            "size": path.stat().st_size,
            "sha256": _sync_and_hash(path),
        }
    with open(folder / MANIFEST, "wb") as file:
        file.write(_manifest_bytes(files))
        file.flush()
        os.fsync(file.fileno())
    for each in reversed(folders):
        sync_folder(each)


def _manifest_bytes(files: dict[str, Any]) -> bytes:
    # The manifest hashes itself, so that a flipped bit in a file's name is noticed too.
    body = orjson.dumps(files, option=orjson.OPT_SORT_KEYS)
    whole = {"files": files, "format_version": 1, "sha256": hashlib.sha256(body).hexdigest()}
    return orjson.dumps(whole, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def _sync_and_hash(path: Path) -> str:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put_in_place(folder: Path, target: Path) -> None:
    old = None
    if target.exists():
        old = target.parent / f".old-{target.name}-{os.getpid()}"
        shutil.rmtree(old, ignore_errors=True)
        os.rename(target, old)
    try:
        os.rename(folder, target)
    except OSError:
        if old is not None:
            os.rename(old, target)
        raise
    sync_folder(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def verify_checkpoint(path: Path) -> None:
    """Check every file of a folder against its manifest; CheckpointError names the bad one."""
    for name, facts in read_manifest(path).items():
        file = path / name
        try:
            size = file.stat().st_size
            if size != facts["size"]:
                raise CheckpointError(
                    f"{file} is damaged: it has {size} bytes, not {facts['size']} as when saved"
                )
            with open_regular(file) as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except FileNotFoundError:
            raise CheckpointError(f"{file} is missing from the checkpoint") from None
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
        if digest != facts["sha256"]:
            raise CheckpointError(f"{file} is damaged: its bytes changed since it was saved")


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """Read the size and hash of every file of a folder; CheckpointError if it cannot be trusted."""
    manifest = path / MANIFEST
    try:
        data = read_regular(manifest)
    except FileNotFoundError:
        raise CheckpointError(f"{manifest} is missing: the folder was never completed") from None
    except OSError as error:
        raise CheckpointError(f"{manifest} cannot be read: {error.strerror}") from error
    try:
        files = orjson.loads(data)["files"]
        intact = _manifest_bytes(files) == data and all(_inside(name) for name in files)
    except (orjson.JSONDecodeError, TypeError, KeyError, UnicodeDecodeError):
        intact = False
    if not intact:
        raise CheckpointError(f"{manifest} is damaged: its bytes changed since it was saved")
    return dict(files)


def manifest_hash(path: Path) -> str:
    """Give one hash for all files of a folder; CheckpointError when it has no whole manifest."""
    files = read_manifest(path)
    return hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts


def list_checkpoints(run: RunFolder) -> list[Path]:
    """List the completed checkpoints of a run, oldest first; a link is none."""
    try:
        found = [p for p in run.checkpoints.iterdir() if _STEP.match(p.name) and _own_folder(p)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=checkpoint_step)


def _own_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def checkpoint_step(path: Path) -> int:
    """Read the step a checkpoint was saved at from its name."""
    found = _STEP.match(path.name)
    if found is None:
        raise CheckpointError(f"{path} is not a checkpoint; they are named step-<n>")
    return int(found.group(1))


def newest_good_checkpoint(run: RunFolder) -> tuple[Path | None, list[str]]:
    """Find the newest checkpoint whose files are whole, and say what is wrong with newer ones."""
    problems = []
    for path in reversed(list_checkpoints(run)):
        try:
            verify_checkpoint(path)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def best_step(run: RunFolder) -> int | None:
    """Read which step `best` points to."""
    try:
        found = _STEP.match(Path(os.readlink(run.best)).name)
    except OSError:
        return None
    return int(found.group(1)) if found else None


def rotate_checkpoints(run: RunFolder, keep: int, protect: set[int]) -> None:
    """Delete all but the newest checkpoints, the best one and those of the protected steps.

    One that another run of the book started from stays as well. Raises BookError where the run or
    its checkpoints are behind a link.
    """
    refuse_linked_run(run)
    kept = protect | steps_started_from(run)
    best = best_step(run)
    if best is not None:
        kept.add(best)
    for path in list_checkpoints(run)[:-keep]:
        if checkpoint_step(path) not in kept:
            delete_folder(path)
    clear_stale_folders(run)


def delete_folder(path: Path) -> None:
    """Delete a folder so that a crash half-way never leaves a damaged one under its name.

    Raises BookError for a link.
    """
    refuse_linked(path.parent, path)
    trash = path.parent / f".trash-{path.name}-{os.getpid()}"
    with storage_errors(f"delete {path}", path.parent):
        os.rename(path, trash)
        shutil.rmtree(trash)


def stale_folders(run: RunFolder) -> list[Path]:
    """List folders that a dead process left half-written or half-deleted."""
    found = []
    for parent in (run.path, run.checkpoints):
        try:
            entries = sorted(parent.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        for path in entries:
            match = _ASIDE.match(path.name)
            if match and _own_folder(path) and not process_alive(int(match.group(1))):
                found.append(path)
    return found


def clear_stale_folders(run: RunFolder) -> None:
    """Delete what dead processes left; a folder set aside and not yet replaced is put back.

    Raises BookError where the run or its checkpoints are behind a link.
    """
    refuse_linked_run(run)
    for path in stale_folders(run):
        match = _OLD.match(path.name)
        if match and not (path.parent / match.group(1)).exists():
            with storage_errors(f"put {path} back", path.parent):
                os.rename(path, path.parent / match.group(1))
        else:
            shutil.rmtree(path, ignore_errors=True)


def clear_asides(parent: Path, name: str) -> None:
    """Delete what dead processes left in a folder while they wrote `name`."""
    for path in parent.glob(f".tmp-{name}-*"):
        match = _ASIDE.match(path.name)
        if match and _own_folder(path) and not process_alive(int(match.group(1))):
            shutil.rmtree(path, ignore_errors=True)


def mark_best(run: RunFolder, step: int) -> None:
    """Point `best` at a checkpoint in one step."""
    aside = run.path / f".best-{os.getpid()}"
    with storage_errors(f"mark the best checkpoint of {run.name}", run.path):
        aside.unlink(missing_ok=True)
        os.symlink(f"checkpoints/step-{step}", aside)
        os.replace(aside, run.best)
        sync_folder(run.path)
