"""Follow a run that somebody else trains."""

from __future__ import annotations

import time
from pathlib import Path

from tunebook.book.events import EventTail
from tunebook.book.liveness import is_alive
from tunebook.book.places import find_book, open_run
from tunebook.book.run_file import imported_from
from tunebook.book.summary import summarize
from tunebook.errors import BookError
from tunebook.records import RunSummary
from tunebook.workflows.launch import Watcher


def watch_run(name: str, watch: Watcher, *, book: Path | None = None) -> RunSummary:
    """Show every event of a run from its start, and new ones until it is no longer running."""
    run = open_run(find_book() if book is None else book, name)
    if imported_from(run):
        raise BookError(
            f"run {name} was imported and is over; `tunebook show {name}` and `tunebook verdicts "
            f"{name}` say what is known of it"
        )
    tail = EventTail(run)
    while True:
        # A run is diagnosed once more after its last state was written.
        over = summarize(run).state != "running" and not is_alive(run)
        for kind, payload in tail.poll():
            watch(kind, payload)
        if over:
            return summarize(run)
        watch("tick", {})
        time.sleep(0.5)
