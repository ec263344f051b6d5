"""Released weights to be served: made once for the same weights, and verified before each use."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from tunebook.book.atomic import storage_errors, write_atomically
from tunebook.book.checkpoints import verify_checkpoint
from tunebook.book.codec import dump_json, to_record
from tunebook.book.places import open_run, served_dir
from tunebook.book.releases import Release
from tunebook.book.writing import make_folder
from tunebook.errors import MALFORMED, CheckpointError
from tunebook.regular import read_regular
from tunebook.workflows.release import write_release
from tunebook.workflows.release_template import renderer_of
from tunebook.workflows.speakers import Trained, open_run_to_ask

Say = Callable[[str], None]

_LAYOUT = 1
# A server takes what a request leaves open from here. By itself transformers' own takes the
# likeliest token whatever temperature it is asked for, and draws from 50 tokens at most.
_SAMPLING = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}


@dataclass(frozen=True, slots=True)
class Served:
    """A released folder: `parent / name`, where servers know the model by `name`.

    `context` is how many tokens prompt and answer may have together, None where there is no limit.
    """

    parent: Path
    name: str
    release: Release
    context: int | None

    @property
    def book(self) -> Path:
        """The book that it lies in."""
        return self.parent.parents[2]

    @property
    def folder(self) -> Path:
        """Where the weights are."""
        return self.parent / self.name

    @property
    def hub(self) -> Path:
        """A folder laid out as the Hugging Face cache is, in which this model is the only one."""
        return self.parent / "hub"


def release_to_serve(name: str, book: Path, weights: str, say: Say) -> Served:
    """Release weights of a run into the book's own folder, or find them there, whole.

    Adapters are merged. Raises as `release` does; nothing is written into the run.
    """
    trained = open_run_to_ask(open_run(book, name), [weights], device="cpu", say=say)
    parent = served_dir(book) / _key(trained)
    model = name if weights == "final" else f"{name}-{weights}"
    with _alone(parent, say):
        found = _there(parent, model, say)
        if found is None:
            found = write_release(
                name,
                parent / model,
                book,
                form="merged",
                weights=weights,
                say=say,
                over=True,
                generation=_SAMPLING,
            )
            write_atomically(_record(parent, model), dump_json(found, indent=True))
        served = Served(parent, model, found, _context(parent / model))
        _list_in_hub(served)
    return served


@contextmanager
def in_use(served: Served) -> Iterator[None]:
    """Keep `tunebook clean` from a folder that is being served."""
    path = served.parent / f"serving-{os.getpid()}.lock"
    try:
        with FileLock(path):
            yield
    finally:
        path.unlink(missing_ok=True)


def _key(trained: Trained) -> str:
    """Tell apart what may differ in the files: weights, tokenizer, template, and their layout."""
    renderer = renderer_of(trained.run, trained.recipe, trained.codec)
    made_of = [
        trained.subjects[0].weights,
        trained.codec.fingerprint,
        renderer.identity,
        _SAMPLING,
        _LAYOUT,
    ]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def _there(parent: Path, model: str, say: Say) -> Release | None:
    """Read what was released before; None where it is not there, or not whole any more."""
    if not (parent / model).is_dir():
        return None
    try:
        verify_checkpoint(parent / model)
        return to_record(Release, orjson.loads(read_regular(_record(parent, model))))
    except CheckpointError as error:
        say(f"{error}; it is made again")
    except (OSError, *MALFORMED):
        say(f"{_record(parent, model)} cannot be read; the folder is made again")
    return None


def _record(parent: Path, model: str) -> Path:
    return parent / f"{model}.json"


def _context(folder: Path) -> int | None:
    config = json.loads(read_regular(folder / "config.json"))
    found = config.get("max_position_embeddings") or config.get("n_positions")
    return found if isinstance(found, int) else None


def _list_in_hub(served: Served) -> None:
    """Let transformers' server, which lists the models of the cache of the hub, list this one."""
    own = served.hub / f"models--{served.name}"
    with storage_errors(f"write {own}", served.parent):
        make_folder(served.book, own / "refs")
        write_atomically(own / "refs" / "main", "served")
        make_folder(served.book, own / "snapshots")
        link = own / "snapshots" / "served"
        if not link.is_symlink():
            link.symlink_to(Path("..", "..", "..", served.name))


@contextmanager
def _alone(parent: Path, say: Say) -> Iterator[None]:
    """Let one process at a time make what is served."""
    with storage_errors(f"write {parent}", parent.parent.parent):
        make_folder(parent.parents[2], parent)
        lock = FileLock(parent / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("another process makes these weights ready; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
