"""A workbench for fine-tuning open-weight language models that keeps the lab notebook itself.

The commands as functions; each imports what it needs when it is called, so that `import tunebook`
costs nothing::

    import tunebook

    run = tunebook.train("run_1.yaml", ["train.learning_rate=1e-4"])
    print(run.val_loss, run.outcome)

Every mistake is a `tunebook.errors.TunebookError` with one sentence and an `exit_code`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunebook.records import RunSummary

__version__ = "0.1.0"
__all__ = ["create_book", "resume", "runs", "train"]


def create_book(folder: str | Path) -> Path:
    """Make a book, the folder that holds runs; BookError when it cannot be made."""
    from tunebook.book.places import create_book

    return create_book(Path(folder))


def train(
    run_file: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    book: str | Path | None = None,
) -> RunSummary:
    """Train a run file, a new run of the book, or a mapping with the keys of a run file.

    `overrides` are `key=value` strings. The book is found by walking up from the working
    directory unless it is given. Raises RunFileError, DataError, ModelError or BookError for
    mistakes, RunEnded when the run did not reach its last step; what was saved stays valid.
    """
    from tunebook.workflows.train import train

    return train(run_file, overrides, book=None if book is None else Path(book))


def resume(name: str, *, book: str | Path | None = None) -> RunSummary:
    """Go on with a paused or failed run from its newest good checkpoint; raises as `train`."""
    from tunebook.workflows.resume import resume

    return resume(name, book=None if book is None else Path(book))


def runs(*, book: str | Path | None = None) -> list[RunSummary]:
    """Read one summary per run of the book, without torch."""
    from tunebook.book.index import run_summaries
    from tunebook.book.places import find_book

    return run_summaries(find_book() if book is None else Path(book))
