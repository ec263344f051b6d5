"""Read, filter, render and tokenize one source into a store, or open the one made before."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock

from tunebook.data.codec import TextCodec
from tunebook.data.detect import Detected, detect
from tunebook.data.examples import check_stage
from tunebook.data.filters import NamedFilter, build_filters
from tunebook.data.pieces import Piece, cut_pieces, piece_bytes
from tunebook.data.render import Renderer, choose_renderer
from tunebook.data.seal import seal_segments
from tunebook.data.segment import Job, TokenSettings
from tunebook.data.sources import Located, explained, hash_files, locate
from tunebook.data.store import Store, open_store
from tunebook.data.workers import Workers, make_segments
from tunebook.errors import DataError, LibraryFault, StorageError
from tunebook.recipe.tree import Source
from tunebook.units import format_count

__all__ = [
    "Built",
    "Progress",
    "Say",
    "Speaker",
    "TokenSettings",
    "Workers",
    "build_source",
    "made_from",
    "row_notes",
]

Say = Callable[[str], None]

_SAY_EVERY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the tokenizing of a source is; `total_bytes` is None where only the end will tell.

    `started_bytes` were there from an earlier time.
    """

    source: str
    done_bytes: int
    started_bytes: int
    total_bytes: int | None
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """The speed of this time's work."""
        return (self.done_bytes - self.started_bytes) / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """The time to go at this speed; None when it cannot be told."""
        if self.total_bytes is None or self.done_bytes == self.started_bytes:
            return None
        return max(0, self.total_bytes - self.done_bytes) / self.bytes_per_second


@dataclass(frozen=True, slots=True)
class Built:
    """A source as tokens, with what was found out about it."""

    name: str
    located: Located
    detected: Detected
    renderer: Renderer
    store: Store
    content_hash: str


def build_source(
    source: Source,
    settings: TokenSettings,
    codec: TextCodec,
    cache_dir: Path,
    say: Say,
    *,
    workers: Workers | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Built:
    """Tokenize a source, unless a store with the same content and settings is there.

    One that was begun goes on where it was. `watch` is told of progress, else `say` now and then.
    Raises DataError for anything wrong with its files, RunFileError for its filters, StorageError
    where its tokens cannot be written.
    """
    located = locate(source.path)
    filters = build_filters(source.filters)
    detected = detect(located, source)
    check_stage(detected.format, settings.stage, source.path)
    renderer = choose_renderer(settings.template, detected.format, codec, settings.stage)
    say(f"{source.path}: format {detected.format} ({detected.reason}); template {renderer.name}")
    stamp = _stamp(located)
    content_hash = hash_files(located)
    origin = made_from(located, content_hash, source, detected, settings, renderer, filters)
    key = _key(origin)
    store, why_not = open_store(cache_dir, key)
    if why_not is not None:
        say(f"{source.path}: the cached tokens are set aside, {why_not}; tokenizing again")
    if store is None:
        dtype = "<u2" if codec.vocab_size <= 2**16 else "<u4"
        job = Job(source, located, detected, settings, codec, dtype)
        maker = _Maker(job, origin, stamp, workers or Workers(), say, watch or Speaker(say))
        store = _make_store(maker, cache_dir, key)
        say(f"{source.path}: {format_count(store.n_tokens)} tokens made and kept for the next run")
    return Built(located.name, located, detected, renderer, store, content_hash)


def row_notes(facts: Mapping[str, Any]) -> list[str]:
    """Say what was noticed about the rows of a store while they were tokenized."""
    changed = facts["changed"]
    notes = [f"rewrite {name} changed {format_count(n)} rows" for name, n in changed.items()]
    notes += [f"filter {idle} dropped or changed nothing" for idle in facts["idle_filters"]]
    counted = {
        "shared_rows": "{} rows have a token that prompt and answer share",
        "special_rows": "{} rows hold the text of special tokens; it stays plain text",
        "unended_rows": "{} rows have an answer that the chat template ends with no special token, "
        "so the model does not learn to stop there; say `template: chat`",
        "cut_rows": "{} rows were cut, " + format_count(facts["cut_tokens"]) + " tokens lost",
        "left_out_rows": "{} rows had "
        + format_count(facts["left_out_turns"])
        + " of their oldest turns left out to fit",
        "mojibake_rows": "{} rows look wrongly decoded (as `Ã©` for `é`); see their encoding",
        "blank_lines": "{} blank lines are no rows",
    }
    notes += [text.format(format_count(facts[k])) for k, text in counted.items() if facts[k]]
    return notes


# What a run takes of a store is decided when it is read.
_DECIDED_LATER = {"path", "format", "columns", "weight", "sample", "filters"}


def made_from(
    located: Located,
    content_hash: str,
    source: Source,
    detected: Detected,
    settings: TokenSettings,
    renderer: Renderer,
    filters: Sequence[NamedFilter],
) -> dict[str, object]:
    """Give all that decides the tokens of a source, in values that JSON keeps as they are."""
    return {
        "version": 5,
        "content": content_hash,
        "kind": located.kind,
        "format": detected.format,
        "shape": detected.shape,
        "columns": dict(detected.mapping),
        "source": source.model_dump(mode="json", exclude=_DECIDED_LATER),
        "filters": [[f.name, dict(f.settings), f.fingerprint] for f in filters],
        "engine": _engine_of(source, detected),
        "tokenizer": renderer.codec.fingerprint,
        "template": renderer.identity,
        "stage": settings.stage,
        "train_on": settings.train_on,
        "max_seq_len": settings.max_seq_len,
        "overlong": settings.overlong,
        "piece_bytes": piece_bytes(detected.format, source),
    }


def _key(origin: Mapping[str, object]) -> str:
    return hashlib.sha256(orjson.dumps(origin, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _engine_of(source: Source, detected: Detected) -> str | None:
    """Name the engine that labels positions, with its version: another one gives other answers."""
    if detected.format not in ("chess-uci", "pgn") or "best_move" not in source.chess.shares:
        return None
    from tunebook.data.chess.engine import shared_engine

    return shared_engine(source.chess.engine).name


Stamp = tuple[tuple[int, int], ...]


def _stamp(located: Located) -> Stamp:
    """Give what changes when a file does: its size and when it was last written."""
    found = []
    for file in located.files:
        with explained(file.path):
            known = file.path.stat()
        found.append((known.st_size, known.st_mtime_ns))
    return tuple(found)


def _make_store(maker: _Maker, cache_dir: Path, key: str) -> Store:
    """Make the segments aside, seal them, and rename the whole to its place."""
    aside = cache_dir / f".tmp-{key[:16]}"
    lock = aside / "lock"
    try:
        # Who else needs the same tokens waits, and finds them made.
        if aside.is_symlink():
            aside.unlink()
        aside.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if open_store(cache_dir, key)[0] is None:
                _clear_of_links(aside)
                maker.make(aside)
                _remove(cache_dir / key)
                lock.unlink()
                os.replace(aside, cache_dir / key)
            else:
                shutil.rmtree(aside, ignore_errors=True)
    except DataError:
        # The same rows will be refused again, and other rows have another key.
        shutil.rmtree(aside, ignore_errors=True)
        raise
    except OSError as error:
        raise StorageError(
            f"token files cannot be written to {cache_dir}: {error.strerror or error}; free space "
            "there or make it writable"
        ) from None
    store, why_not = open_store(cache_dir, key)
    if store is None:
        raise StorageError(f"the tokens just written to {cache_dir / key} are bad: {why_not}")
    return store


def _clear_of_links(folder: Path) -> None:
    """Take out whatever is no plain file: it was not put there by an earlier start.

    A book may come from a stranger, and a link called as a segment is would be written through.
    """
    with os.scandir(folder) as found:
        strange = [entry.path for entry in found if not entry.is_file(follow_symlinks=False)]
    for path in strange:
        _remove(Path(path))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@dataclass(slots=True)
class _Maker:
    """Makes the segments of a source in a folder."""

    job: Job
    origin: Mapping[str, object]
    stamp: Stamp
    workers: Workers
    say: Say
    watch: Callable[[Progress], None]

    def make(self, folder: Path) -> None:
        """Make and seal all segments; DataError when the files changed meanwhile."""
        job = self.job
        n_bytes = sum(size for size, _ in self.stamp)
        done = _Watched(job, n_bytes, self.watch)
        pieces = cut_pieces(job.located, job.detected.format, job.source)
        try:
            numbers = make_segments(job, pieces, folder, self.workers, n_bytes, done)
        except LibraryFault as fault:
            # Whatever it made is in doubt, in every segment.
            for path in folder.iterdir():
                if path.name != "lock":
                    path.unlink()
            self.say(f"{job.source.path}: {fault}; tokenizing again without it")
            self.job = replace(job, codec=job.codec.without(fault.library))
            self.make(folder)
            return
        if _stamp(job.located) != self.stamp:
            raise DataError(f"{job.source.path} changed while it was read; run it again")
        seal_segments(job, folder, numbers, self.origin)


class _Watched:
    """Counts the pieces that are done and tells of them."""

    def __init__(self, job: Job, n_bytes: int, watch: Callable[[Progress], None]) -> None:
        packed = any(file.path.suffix.lower() in (".gz", ".zst") for file in job.located.files)
        in_lines = job.located.kind in ("jsonl", "text")
        self._total = n_bytes if in_lines and not packed else None
        self._source, self._watch = job.source.path, watch
        self._begun = time.monotonic()
        self._done = self._started = 0

    def __call__(self, piece: Piece, *, was_there: bool) -> None:
        self._done += piece.n_bytes
        self._started += piece.n_bytes if was_there else 0
        seconds = time.monotonic() - self._begun
        self._watch(Progress(self._source, self._done, self._started, self._total, seconds))


class Speaker:
    """Says every ten seconds how far the tokenizing of a source is."""

    def __init__(self, say: Say) -> None:
        self._say, self._last = say, 0.0

    def __call__(self, progress: Progress) -> None:
        """Take note of progress, and say it when it is time."""
        if progress.seconds - self._last < _SAY_EVERY_SECONDS:
            return
        self._last = progress.seconds
        self._say(describe_progress(progress))


def describe_progress(progress: Progress) -> str:
    """Say how far a source is, how fast, and how long it will take."""
    speed = f"{progress.bytes_per_second / 1e6:.1f} MB/s"
    if progress.total_bytes is None:
        return f"{progress.source}: {progress.done_bytes / 1e6:,.0f} MB tokenized, {speed}"
    share = progress.done_bytes / max(progress.total_bytes, 1)
    left = progress.seconds_left
    until = "" if left is None else f", about {left:.0f} s to go"
    return f"{progress.source}: {share:.0%} tokenized, {speed}{until}"
