"""Go on with an interrupted run."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.places import find_book, open_run
from tunebook.book.summary import summarize
from tunebook.errors import BookError
from tunebook.records import RunSummary
from tunebook.workflows.launch import Watcher
from tunebook.workflows.train import train_run


def resume(
    name: str,
    *,
    book: Path | None = None,
    watch: Watcher = lambda _kind, _payload: None,
) -> RunSummary:
    """Train a paused or failed run from its newest good checkpoint, or from step 0 without one.

    Raises BookError when there is no such run, or nothing is left of it to train.
    """
    book = find_book() if book is None else book
    run = open_run(book, name)
    summary = summarize(run)
    if summary.state == "finished":
        raise BookError(
            f"run {name} is finished; `model: run:{name}` in a new run file trains on from its "
            "weights"
        )
    if summary.state == "running":
        raise BookError(
            f"run {name} is being trained; `tunebook watch {name}` shows it, "
            f"`tunebook stop {name}` lets it save and pause"
        )
    if summary.state == "new":
        raise BookError(f"run {name} was never started; `tunebook train {name}` starts it")
    if summary.state == "stopped":
        raise BookError(
            f"run {name} was stopped by a verdict; `tunebook new NAME --from {name} key=value` "
            "makes a run that mends the cause"
        )
    return train_run(run, watch)
