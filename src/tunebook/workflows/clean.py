"""Delete what no run needs any more, and nothing else."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
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
from tunebook.book.inside import refuse_linked, refuse_linked_run
from tunebook.book.lineage import steps_started_from
from tunebook.book.places import RunFolder, served_dir
from tunebook.errors import BookError
from tunebook.records import RunSummary
from tunebook.regular import read_regular_text

# What tunebook itself makes there: tokens and grown tokenizers, and released copies, by a hash.
_CACHED = re.compile(r"(?:[0-9a-f]{64}|\.tmp-[0-9a-f]{16}|\.?tokenizer-[0-9a-f]{32}(?:-\d+)?)\Z")
_GOING_ON = ("paused", "unknown")
_SERVED = re.compile(r"[0-9a-f]{16}\Z")


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing that can go, with the reason and its size."""

    path: Path
    reason: str
    bytes: int


def clean_book(
    book: Path, *, dry_run: bool = False, say: Callable[[str], None] = lambda _text: None
) -> list[Removal]:
    """Delete superseded checkpoints, half-written folders, unused token caches and served copies.

    Never touched: a running run, `best`, `final`, a checkpoint that another run started from, and
    the newest good checkpoint of a run that can still go on. Nor what is being served, nor anything
    behind a link: `say` is told of such a run or cache.
    """
    summaries = {summary.name: summary for summary in run_summaries(book)}
    idle = [RunFolder(book, name) for name, s in summaries.items() if s.state != "running"]
    runs = [run for run in idle if _may_be_cleaned(run, say)]
    removals = [removal for run in runs for removal in _of_run(run, summaries[run.name])]
    removals += _caches(book, summaries, say)
    removals += _served(book, say)
    if not dry_run:
        for removal in removals:
            _remove(removal)
        for run in runs:
            clear_stale_folders(run)
    return removals


def _may_be_cleaned(run: RunFolder, say: Callable[[str], None]) -> bool:
    try:
        refuse_linked_run(run)
    except BookError as error:
        say(f"run {run.name} stays as it is: {error}")
        return False
    return True


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


def _caches(
    book: Path, summaries: Mapping[str, RunSummary], say: Callable[[str], None]
) -> Iterator[Removal]:
    # Caches are made anew from the data when they are missed; only a run in progress reads them.
    cache = book / ".tunebook" / "cache"
    if any(s.state == "running" for s in summaries.values()) or not _is_own(book, cache, say):
        return
    resumable = [RunFolder(book, n) for n, s in summaries.items() if s.state in _GOING_ON]
    used = "".join(_text(run.data_json) for run in resumable)
    for path in _made_in(cache, _CACHED):
        if path.name not in used and not _in_use(path):
            yield Removal(path, "unused token cache", folder_bytes(path))


def _served(book: Path, say: Callable[[str], None]) -> Iterator[Removal]:
    """List released copies of weights; serving them again makes them again."""
    folder = served_dir(book)
    for path in _made_in(folder, _SERVED) if _is_own(book, folder, say) else []:
        if not _in_use(path):
            yield Removal(path, "served copy", folder_bytes(path))


def _is_own(book: Path, folder: Path, say: Callable[[str], None]) -> bool:
    """Tell whether a folder of the book is there to be emptied, and is no link."""
    if not folder.is_dir():
        return False
    try:
        refuse_linked(book, folder)
    except BookError as error:
        say(f"nothing of {folder.relative_to(book)} is deleted: {error}")
        return False
    return True


def _made_in(folder: Path, names: re.Pattern[str]) -> list[Path]:
    """List the folders that tunebook made: what else lies beside them is somebody's own."""
    found = [path for path in folder.iterdir() if names.match(path.name)]
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def _in_use(path: Path) -> bool:
    """Tell whether somebody is tokenizing into a folder right now, or serves what is in it."""
    for lock in (path / "lock", *path.glob("*.lock")):
        if not lock.is_file():
            continue
        try:
            FileLock(lock).acquire(timeout=0).lock.release()
        except (Timeout, OSError):  # one that cannot be asked may be held
            return True
    return False


def _text(path: Path) -> str:
    try:
        return read_regular_text(path)
    except OSError:
        return ""


def _remove(removal: Removal) -> None:
    if removal.reason == "superseded checkpoint":
        delete_folder(removal.path)
        return
    with storage_errors(f"delete {removal.path}", removal.path.parent):
        shutil.rmtree(removal.path)
