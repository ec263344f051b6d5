"""Make the segments of a source: here, in processes of this machine, or on a Ray cluster.

Never more than two pieces per worker are under way, so memory is bounded by the number of workers
and not by the data.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tunebook.data.pieces import Piece, Span, count_lines_before, piece_bytes
from tunebook.data.segment import Job, facts_path, make_segment
from tunebook.errors import StorageError, TunebookError, UsageError, first_line

_IN_FLIGHT = 2
_ANSWER_SECONDS = 10.0
_WORTH_PROCESSES = 1.5  # pieces: below, a process takes longer to start than to work


@dataclass(frozen=True, slots=True)
class Workers:
    """How segments are made: by `n` processes (None: one per core), or `on` a Ray address."""

    n: int | None = None
    on: str | None = None


class Done(Protocol):
    """Is told of every piece that is done, or was before."""

    def __call__(self, piece: Piece, *, was_there: bool) -> None:
        """Take note of a piece."""
        ...


def make_segments(
    job: Job, pieces: Iterable[Piece], folder: Path, workers: Workers, n_bytes: int, done: Done
) -> list[int]:
    """Make every segment that is not there yet and return their numbers in order.

    `n_bytes` is the size of the source. Raises what `make_segment` does, with the right line.
    """
    numbers: list[int] = []

    def missing() -> Iterator[Piece]:
        for piece in pieces:
            numbers.append(piece.number)
            if facts_path(folder, piece.number).is_file():
                done(piece, was_there=True)
            else:
                yield piece

    n = workers.n or cores()
    if workers.on is not None:
        _on_ray(job, missing(), folder, workers.on, done)
    elif n == 1 or n_bytes < _WORTH_PROCESSES * piece_bytes(job.detected.format, job.source):
        for piece in missing():
            _explained(job, piece, folder, partial(make_segment, job, piece, folder))
            done(piece, was_there=False)
    else:
        _in_processes(job, missing(), folder, n, done)
    return numbers


def cores() -> int:
    """Count the cores that this process may use: a scheduler may give fewer than there are."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _in_processes(job: Job, pieces: Iterator[Piece], folder: Path, n: int, done: Done) -> None:
    # A fresh process does not share locks that threads of this one may hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n, mp_context=context, initializer=_begin, initargs=(job, folder))
    try:
        waiting: dict[Future[None], Piece] = {}
        for piece in pieces:
            waiting[pool.submit(_work, piece)] = piece
            if len(waiting) >= n * _IN_FLIGHT:
                _collect(job, folder, waiting, done)
        while waiting:
            _collect(job, folder, waiting, done)
    except BrokenProcessPool:
        raise StorageError(
            "a process that prepares data was killed, perhaps for want of memory; run it again "
            "with fewer `--workers`, it goes on where it was"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(job: Job, folder: Path, waiting: dict[Future[None], Piece], done: Done) -> None:
    ready = wait(waiting, return_when=FIRST_COMPLETED).done
    for future in sorted(ready, key=lambda f: waiting[f].number):
        piece = waiting.pop(future)
        try:
            _explained(job, piece, folder, future.result)
        except TunebookError:
            # Of several wrong rows the first is named, whichever process was faster.
            earlier = [(p, f) for f, p in waiting.items() if p.number < piece.number]
            for other, result in sorted(earlier, key=lambda pair: pair[0].number):
                _explained(job, other, folder, result.result)
            raise
        done(piece, was_there=False)


def _explained(job: Job, piece: Piece, folder: Path, run: Callable[[], object]) -> None:
    """Run what makes a segment; when a row is wrong, find out its line and say that."""
    try:
        run()
    except TunebookError:
        if piece.first_line is not None:
            raise
        assert isinstance(piece.found, Span)
        span = replace(piece.found, first_line=1 + count_lines_before(piece.found))
        make_segment(job, replace(piece, found=span), folder)


_here: tuple[Job, Path] | None = None


def _begin(job: Job, folder: Path) -> None:
    """Remember the job in a fresh worker process: it is sent once, not with every piece."""
    global _here
    _here = (job, folder)
    # Who is at the terminal speaks to the parent; and a killed parent leaves nobody to work for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Rows make no cycles, and looking for some takes a sixth of the time.
    gc.freeze()
    gc.disable()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(piece: Piece) -> None:
    assert _here is not None
    make_segment(_here[0], piece, _here[1])


def _on_ray(job: Job, pieces: Iterator[Piece], folder: Path, address: str, done: Done) -> None:
    """Make segments as Ray tasks; every machine must see the source and the folder."""
    try:
        ray = import_ray(address)
    except ImportError:
        raise UsageError("preparing data on Ray needs ray; pip install 'tunebook[ray]'") from None
    started = not ray.is_initialized()
    if started:
        connect(ray, address)
    try:
        known = ray.put(job)
        task = ray.remote(_segment_on_ray)
        limit = max(1, int(ray.cluster_resources().get("CPU", 1))) * _IN_FLIGHT
        waiting: dict[Any, Piece] = {}
        for piece in pieces:
            waiting[task.remote(known, piece, str(folder.resolve()))] = piece
            if len(waiting) >= limit:
                _collect_from_ray(ray, job, folder, waiting, done)
        while waiting:
            _collect_from_ray(ray, job, folder, waiting, done)
    finally:
        if started:
            ray.shutdown()


def import_ray(address: str) -> Any:
    """Import Ray; a cluster of its own (`local`) admits only who has a secret of this process.

    Ray listens on every interface. The secret is in the environment, which Ray reads when it is
    imported, and in no file. Raises ImportError where Ray is not installed.
    """
    if address == "local" and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return importlib.import_module("ray")


def connect(ray: Any, address: str, **settings: Any) -> None:
    """Join a Ray cluster; UsageError where none answers, or `auto` would find somebody else's.

    The working folder, which may be a stranger's book, is left meanwhile: Ray lets its workers look
    for Python in the one that it is called in, before all others.
    """
    look_for_cluster(address)
    if address == "auto":
        _refuse_anybodys()
    if address == "local":
        settings["_temp_dir"] = _own_folder()
    try:
        with contextlib.chdir(Path(os.sep)):  # only the machine's owner writes there
            ray.init(
                address=address,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                **settings,
            )
    except Exception as error:  # Ray raises its own, builtin and gRPC errors here
        raise _no_cluster(address, first_line(error)) from None


def _own_folder() -> str:
    """Name a folder for a cluster of one's own, within one that lets no other account in.

    Ray opens its folder to every account, which could then put others in the place of its sockets.
    """
    # Short: the name of a socket has 107 letters at most.
    closed = tempfile.mkdtemp(prefix="tb-", dir=os.environ.get("RAY_TMPDIR"))
    atexit.register(shutil.rmtree, closed, ignore_errors=True)
    return os.path.join(os.path.abspath(closed), "r")


def _refuse_anybodys() -> None:
    """Raise UsageError where another account wrote down where `auto` leads to.

    Ray lets every account of a machine write it, and believes it: the cluster gets what is run.
    """
    if os.environ.get("RAY_ADDRESS"):
        return
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    path = Path(folder) / "ray" / "ray_current_cluster"
    try:
        owner = path.lstat().st_uid
    except OSError:
        return  # Ray says that there is none
    if owner not in (0, os.geteuid()):
        raise UsageError(
            f"--on auto: {path}, which says where the cluster is, was written by another account "
            f"of this machine (number {owner}); give the address itself, as --on HOST:6379"
        )


def look_for_cluster(address: str) -> None:
    """Raise UsageError where nothing listens at an address; Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # auto and local are found, or not, by Ray
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, first_line(error)) from None


def _no_cluster(address: str, reason: str) -> UsageError:
    return UsageError(
        f"--on {address}: no Ray cluster answers there ({reason}); start one with `ray start "
        "--head`, or say `--on local`"
    )


def _segment_on_ray(job: Job, piece: Piece, folder: str) -> None:
    path = Path(folder)
    if not path.is_dir():
        raise StorageError(
            f"{folder} is not there on this machine; keep the token cache on a file system that "
            "all machines share"
        )
    make_segment(job, piece, path)


def _collect_from_ray(
    ray: Any, job: Job, folder: Path, waiting: dict[Any, Piece], done: Done
) -> None:
    ready, _ = ray.wait(list(waiting), num_returns=1)

    def result(reference: Any) -> None:
        try:
            ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, TunebookError) else error from None

    for reference in ready:
        piece = waiting.pop(reference)
        _explained(job, piece, folder, partial(result, reference))
        done(piece, was_there=False)
