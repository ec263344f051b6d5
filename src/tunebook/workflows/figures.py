"""Figures and numbers of runs, written where their reader wants them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tunebook.book.atomic import files_aside
from tunebook.book.places import open_run
from tunebook.errors import UsageError
from tunebook.pages.figures import FORMS, MOST_RUNS, draw_figure
from tunebook.pages.run_curves import RunCurves
from tunebook.pages.run_steps import read_steps


def read_curves(book: Path, names: Sequence[str]) -> list[RunCurves]:
    """Read what is drawn of runs; BookError for one that is not there, UsageError for too many."""
    names = list(dict.fromkeys(names))
    if len(names) > MOST_RUNS:
        raise UsageError(
            f"{len(names)} runs in one figure cannot be told apart; name at most {MOST_RUNS}"
        )
    found = [read_steps(open_run(book, name)).curves for name in names]
    if not any(run.drawable() for run in found):
        raise UsageError(f"there is nothing to draw of {', '.join(names)} yet; train it first")
    return found


def write_figure(book: Path, names: Sequence[str], path: Path) -> int:
    """Draw runs into a file whose ending says as what, and return its size in bytes.

    A file of that name is replaced. Raises UsageError for another ending or for a folder.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMS:
        known = ", ".join(f".{one}" for one in FORMS)
        raise UsageError(f"a figure cannot be written as `{path.name}`; end its name in {known}")
    drawn = draw_figure(read_curves(book, names), form)
    return write_into(path, [drawn])


def write_into(path: Path, parts: Iterable[bytes]) -> int:
    """Replace a file by parts, whole or not at all, and return its size in bytes.

    Raises UsageError for a folder and StorageError where it cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    with files_aside([path]) as (file,):
        return sum(file.write(part) for part in parts)
