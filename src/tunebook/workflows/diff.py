"""What differs between two runs: settings first, then results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunebook.book.places import open_run
from tunebook.book.summary import summarize
from tunebook.records import RunSummary

_RESULTS = ("train_loss", "val_loss", "perplexity", "best_val_loss", "base_val_loss", "seconds")
_OWN = ("name", "extends", "notebook.")


@dataclass(frozen=True, slots=True)
class Difference:
    """One key with its values in the two runs; None where a run does not state it."""

    key: str
    left: object
    right: object


@dataclass(frozen=True, slots=True)
class RunDiff:
    """Two runs side by side; `same_examples` is None when it is not known."""

    left: RunSummary
    right: RunSummary
    settings: tuple[Difference, ...]
    results: tuple[Difference, ...]
    same_examples: bool | None


def diff_runs(book: Path, left: str, right: str) -> RunDiff:
    """Compare the resolved values of two runs; BookError when there is no such run."""
    a, b = summarize(open_run(book, left)), summarize(open_run(book, right))
    keys = sorted({*a.config, *b.config})
    settings = tuple(
        Difference(key, a.config.get(key), b.config.get(key))
        for key in keys
        if not key.startswith(_OWN) and a.config.get(key) != b.config.get(key)
    )
    results = tuple(
        Difference(key, getattr(a, key), getattr(b, key))
        for key in _RESULTS
        if getattr(a, key) is not None or getattr(b, key) is not None
    )
    known = a.examples_hash is not None and b.examples_hash is not None
    same = a.examples_hash == b.examples_hash if known else None
    return RunDiff(a, b, settings, results, same)
