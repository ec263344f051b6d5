"""Delete what no run needs any more, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tunebook.book.atomic import folder_bytes, storage_errors
from tunebook.book.checkpoints import (
    best_step,
    checkpoint_step,
    clear_stale_folders,
    delete_folder,
    list_checkpoints,
    newest_good_checkpoint,
    stale_folders,
)
from tunebook.book.index import run_summaries
from tunebook.book.lineage import steps_started_from
from tunebook.book.places import RunFolder, served_dir
from tunebook.records import RunSummary


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing that can go, with the reason and its size."""

    path: Path
    reason: str
    bytes: int


def clean_book(book: Path, *, dry_run: bool = False) -> list[Removal]:
    """Delete superseded checkpoints, half-written folders, unused token caches and served copies.

    Never touched: a running run, `best`, `final`, a checkpoint that another run started from, and
    the newest good checkpoint of a run that can still go on. Nor what is being served.
    """
    summaries = {summary.name: summary for summary in run_summaries(book)}
    removals = [
        removal
        for name, summary in summaries.items()
        if summary.state != "running"
        for removal in _of_run(RunFolder(book, name), summary)
    ]
    removals += _caches(book, summaries)
    removals += _served(book)
    if not dry_run:
        for removal in removals:
            _remove(removal)
        for name, summary in summaries.items():
            if summary.state != "running":
                clear_stale_folders(RunFolder(book, name))
    return removals


def _of_run(run: RunFolder, summary: RunSummary) -> Iterator[Removal]:
    kept = _needed_steps(run, summary)
    for path in list_checkpoints(run):
        if checkpoint_step(path) not in kept:
            yield Removal(path, "superseded checkpoint", folder_bytes(path))
    for path in stale_folders(run):
        if not path.name.startswith(".old-"):
            yield Removal(path, "left half-written", folder_bytes(path))


def _needed_steps(run: RunFolder, summary: RunSummary) -> set[int]:
    checkpoints = list_checkpoints(run)
    every = {checkpoint_step(path) for path in checkpoints}
    kept: set[int] = set()
    best = best_step(run)
    if best is not None:
        kept.add(best)
    if summary.state != "finished" or not run.final.is_dir():
        newest, _ = newest_good_checkpoint(run)
        # Without a good one nothing is superseded: a damaged checkpoint may still be mended.
        kept |= {checkpoint_step(newest)} if newest else every
    return kept | steps_started_from(run)


def _caches(book: Path, summaries: Mapping[str, RunSummary]) -> Iterator[Removal]:
    # Caches are made anew from the data when they are missed; only a run in progress reads them.
    cache = book / ".tunebook" / "cache"
    if not cache.is_dir() or any(s.state == "running" for s in summaries.values()):
        return
    resumable = [RunFolder(book, n) for n, s in summaries.items() if s.state == "paused"]
    used = "".join(_text(run.data_json) for run in resumable)
    for path in sorted(cache.iterdir()):
        if path.name not in used and not _in_use(path):
            size = folder_bytes(path) if path.is_dir() else path.lstat().st_size
            yield Removal(path, "unused token cache", size)


def _served(book: Path) -> Iterator[Removal]:
    """List released copies of weights; serving them again makes them again."""
    folder = served_dir(book)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and not _in_use(path):
            yield Removal(path, "served copy", folder_bytes(path))


def _in_use(path: Path) -> bool:
    """Tell whether somebody is tokenizing into a folder right now, or serves what is in it."""
    for lock in (path / "lock", *path.glob("*.lock")):
        if not lock.is_file():
            continue
        try:
            FileLock(lock).acquire(timeout=0).lock.release()
        except Timeout:
            return True
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _remove(removal: Removal) -> None:
    if removal.reason == "superseded checkpoint":
        delete_folder(removal.path)
        return
    with storage_errors(f"delete {removal.path}", removal.path.parent):
        if removal.path.is_dir():
            shutil.rmtree(removal.path)
        else:
            removal.path.unlink(missing_ok=True)
