"""What differs between two runs: settings first, then results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunebook.book.data_account import describe_changes, read_data
from tunebook.book.places import open_run, run_file_of
from tunebook.book.run_file import flatten
from tunebook.book.summary import summarize
from tunebook.errors import MALFORMED, first_line
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
    """Two runs side by side; `same_examples` is None when it is not known.

    `data` says in words how the files they were trained on differ.
    """

    left: RunSummary
    right: RunSummary
    settings: tuple[Difference, ...]
    results: tuple[Difference, ...]
    same_examples: bool | None
    data: tuple[str, ...] = ()


def diff_runs(book: Path, left: str, right: str) -> RunDiff:
    """Compare the resolved values of two runs; BookError when there is no such run."""
    a, b = (whole_summary(book, summarize(open_run(book, name))) for name in (left, right))
    settings = tuple(Difference(key, *values) for key, values in differing_settings([a, b]).items())
    results = tuple(Difference(key, *values) for key, values in results_of([a, b]).items())
    known = a.examples_hash is not None and b.examples_hash is not None
    same = a.examples_hash == b.examples_hash if known else None
    try:
        data = tuple(data_changes(book, left, right))
    except MALFORMED as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        data = (f"how the data of {left} and {right} differ: a data.json cannot be read ({why})",)
    return RunDiff(a, b, settings, results, same, data)


def data_changes(book: Path, left: str, right: str) -> list[str]:
    """Say how the files differ that two runs were trained on; nothing where it is not known."""
    accounts = [read_data(open_run(book, name)) for name in (left, right)]
    return describe_changes(left, accounts[0], accounts[1]) if all(accounts) else []


def differing_settings(runs: Sequence[RunSummary]) -> dict[str, tuple[object, ...]]:
    """List the settings in which runs differ, with the value of each; None where one has none."""
    keys = sorted({key for run in runs for key in run.config if not key.startswith(_OWN)})
    values = {key: tuple(run.config.get(key) for run in runs) for key in keys}
    return {key: found for key, found in values.items() if any(v != found[0] for v in found)}


def results_of(runs: Sequence[RunSummary]) -> dict[str, tuple[object, ...]]:
    """List what runs came to, where any of them did."""
    values = {key: tuple(getattr(run, key) for run in runs) for key in _RESULTS}
    return {key: found for key, found in values.items() if any(v is not None for v in found)}


def whole_summary(book: Path, summary: RunSummary) -> RunSummary:
    """Resolve what a new run inherits, since its file states only what it changes."""
    if summary.state != "new":
        return summary
    from tunebook.recipe.load import load_run_file

    run = open_run(book, summary.name)
    loaded = load_run_file(run.run_yaml, find_run=lambda name: run_file_of(book, name))
    config = flatten(loaded.recipe.model_dump(mode="json"))
    return replace(summary, model=loaded.recipe.model, config=config)
