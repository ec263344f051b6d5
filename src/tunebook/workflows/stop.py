"""Ask a running run to save and pause."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.atomic import write_text
from tunebook.book.liveness import current_state
from tunebook.book.places import open_run
from tunebook.errors import BookError


def stop_run(book: Path, name: str) -> Path:
    """Leave a request that the trainer finds at its next step; BookError if nothing trains."""
    run = open_run(book, name)
    state = current_state(run)
    if state != "running":
        raise BookError(f"run {name} is {state}, not running, so there is nothing to stop")
    write_text(run.stop_requested, "")
    return run.stop_requested
