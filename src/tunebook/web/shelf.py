"""The book as a server holds it: runs that were read stay read, and only what is new is added."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from tunebook.book.events import Events
from tunebook.book.index import measure_all
from tunebook.book.places import RunFolder, open_run
from tunebook.book.reader import Look, RunReader
from tunebook.book.step_totals import StepTotals
from tunebook.book.summary import Measured, outcome_words
from tunebook.records import RunSummary

READERS_KEPT = 48
"""Runs whose steps stay in memory: about 3 MB for 20,000 steps."""


class Shelf:
    """One book for all requests: what was read stays read."""

    def __init__(self, book: Path):
        self.book = book
        self._readers: OrderedDict[str, RunReader] = OrderedDict()
        self._lock = threading.Lock()
        self._measuring = threading.Lock()

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

    def measured(self) -> dict[str, tuple[RunSummary, Measured]]:
        """Measure every run by name, outcomes included."""
        # One at a time: ten tabs that ask at once would all read the same new lines.
        with self._measuring:
            found = measure_all(self.book, self._read)
        live = {name: summary for name, (summary, _) in found.items()}
        return {
            name: (replace(s, outcome=outcome_words(m, s, live.get)), m)
            for name, (s, m) in found.items()
        }

    def summaries(self) -> dict[str, RunSummary]:
        """Summarize every run by name."""
        return {name: summary for name, (summary, _) in self.measured().items()}

    def _read(self, run: RunFolder) -> tuple[Events, StepTotals]:
        return self.look(run.name).totals()
