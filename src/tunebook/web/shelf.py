"""The book as a server holds it: runs that were read stay read, and only what is new is added."""

from __future__ import annotations

import threading
import time
import traceback
from collections import OrderedDict
from pathlib import Path

from tunebook.book.events import Events
from tunebook.book.index import Index
from tunebook.book.lineage import Lineage, build_lineage
from tunebook.book.places import RunFolder, open_run
from tunebook.book.reader import Look, RunReader
from tunebook.book.step_totals import StepTotals
from tunebook.book.summary import Measured
from tunebook.records import RunSummary

READERS_KEPT = 24
"""Runs whose steps stay in memory, about 3 MB for 20,000 of them; more than one page can draw."""
PATIENCE_SECONDS = 2.0
QUICK_SECONDS = 0.02
"""A look at the folders of a book that takes no longer is taken for every page."""
LOOKS_SHARE = 1 / 30
"""Of its time the server looks for changes, where looking takes longer; training goes first."""
STALE_SECONDS = 5.0
"""How old what a page shows may be at most, as long as somebody looks at pages."""
KEEP_SECONDS = 1.0
"""What was read of a book is written to its index so often: each time takes milliseconds."""


class Shelf:
    """One book for all requests: what was read stays read."""

    def __init__(self, book: Path):
        self.book = book
        self._readers: OrderedDict[str, RunReader] = OrderedDict()
        self._lock = threading.Lock()
        self._measuring = threading.Lock()
        self._index = Index(book, self._read)
        self._done = threading.Event()
        self._done.set()
        self._until = 0.0
        self._queue: dict[str, None] = {}
        self._lineage: tuple[object, Lineage] = None, Lineage((), ())
        self._looking = threading.Lock()
        self._look_at = self._looked_at = self._took_seconds = 0.0
        self._shown: dict[str, tuple[RunSummary, Measured]] = {}

    def reader(self, name: str) -> RunReader:
        """Give the reader of a run; BookError when there is no such run."""
        with self._lock:
            found = self._readers.get(name)
            if found is None or not found.run.exists():
                found = RunReader(open_run(self.book, name))
                self._readers[name] = found
            self._readers.move_to_end(name)
            while len(self._readers) > READERS_KEPT:
                self._readers.popitem(last=False)
            return found

    def look(self, name: str) -> Look:
        """Look at a run as it is now."""
        return self.reader(name).look()

    def measured(self, *, whole: bool = False) -> dict[str, tuple[RunSummary, Measured]]:
        """Measure every run by name, outcomes included.

        Runs that this server never read are read by a thread: a call waits for it for up to
        `PATIENCE_SECONDS` after it began, and then has only the state of those that are left. With
        `whole` it waits to the end. As long as nothing is new, it is the same dict, which nobody
        changes. Where a look at all the folders takes long, it is taken beside the pages, and only
        every `STALE_SECONDS`.
        """
        # One at a time: ten tabs that ask at once would all read the same new lines.
        with self._measuring:
            if looked := time.monotonic() >= self._look_at:
                looked = not self._looks_beside()
                if looked:
                    self._look()
        if reading := not self._done.is_set():
            self._done.wait(None if whole else max(self._until - time.monotonic(), 0))
        with self._measuring:
            if looked or reading:
                self._shown = self._index.runs()
            return self._shown

    def look_again(self) -> None:
        """Look at the folders at the next call: something was just written by this server."""
        self._look_at = self._looked_at = 0.0

    def _looks_beside(self) -> bool:
        """Have a thread look at a large book, where what is known is of a moment ago."""
        now = time.monotonic()
        if self._took_seconds <= QUICK_SECONDS or now - self._looked_at > 2 * STALE_SECONDS:
            return False
        self._look_at = now + STALE_SECONDS
        threading.Thread(target=self._look_beside, daemon=True).start()
        return True

    def _look_beside(self) -> None:
        try:
            self._look()
            with self._measuring:
                self._shown = self._index.runs()
        except Exception:  # the next page finds out by itself, and says so
            self.look_again()

    def _look(self) -> None:
        with self._looking:
            began = time.monotonic()
            changed = [name for name in self._index.refresh() if name not in self._queue]
            self._forget_gone()
            unread = [name for name in changed if name not in self._readers]
            for name in changed:
                if name in self._readers:
                    self._index.read(name)
            self._index.keep()
            if unread and self._done.is_set():
                self._done.clear()
                self._until = time.monotonic() + PATIENCE_SECONDS
                self._queue = dict.fromkeys(unread)
                threading.Thread(target=self._read_queue, daemon=True).start()
            self._looked_at = time.monotonic()
            self._took_seconds = took = self._looked_at - began
            rest = min(took / LOOKS_SHARE, STALE_SECONDS) if took > QUICK_SECONDS else 0.0
            self._look_at = self._looked_at + rest

    def left_out(self) -> list[str]:
        """Say of each link that is no run of the book why not, as of the last look."""
        return self._index.left_out

    def lineage(self) -> Lineage:
        """Say where all runs of the book come from; made once as long as nothing is new."""
        measured = self.measured()
        known, lineage = self._lineage
        if known is not measured:
            lineage = build_lineage(self.book, (summary for summary, _ in measured.values()))
            self._lineage = measured, lineage
        return lineage

    def evaluated(self, kind: str) -> list[str]:
        """Name the runs with a result of a kind of evaluation, such as `chess`."""
        self.measured()
        return self._index.evaluated(kind)

    def _forget_gone(self) -> None:
        with self._lock:
            for name in self._readers.keys() - set(self._index.names):
                del self._readers[name]

    def _read_queue(self) -> None:
        kept_at = time.monotonic()
        try:
            for name in list(self._queue):
                try:
                    self._index.read(name)
                    if time.monotonic() - kept_at > KEEP_SECONDS:
                        self._index.keep()
                        kept_at = time.monotonic()
                except Exception:  # a bug with one run must not hide those after it
                    traceback.print_exc()
                del self._queue[name]
        finally:
            self._queue = {}
            self._look_at = 0.0
            self._done.set()
            self._index.keep()

    @property
    def reading(self) -> str:
        """Say how far the reading of runs is; empty when there is nothing left to read."""
        left = len(self._queue)
        return f"reading: {left} of {len(self._index.names)} runs are left" if left else ""

    def summaries(self, *, whole: bool = False) -> dict[str, RunSummary]:
        """Summarize every run by name; `whole` is that of `measured`."""
        return {name: summary for name, (summary, _) in self.measured(whole=whole).items()}

    def _read(self, run: RunFolder) -> tuple[Events, StepTotals]:
        return self.look(run.name).totals()
