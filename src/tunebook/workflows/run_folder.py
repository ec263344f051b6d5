"""The folder that a run begins with."""

from __future__ import annotations

import shutil

from tunebook.book.atomic import write_atomically
from tunebook.book.events import read_events
from tunebook.book.inside import refuse_linked_run
from tunebook.book.places import RunFolder
from tunebook.errors import StorageError


def write_folder(run: RunFolder, resolved: str, written: str) -> None:
    """Make a run's folder with both of its run files; StorageError where it cannot be made.

    Raises BookError where there is a link instead of the folder.
    """
    refuse_linked_run(run)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        # Once there is a run file its folder can be trained, so that what a fork is comes first.
        write_atomically(run.resolved_yaml, resolved)
        write_atomically(run.run_yaml, written)
    except OSError as error:
        raise StorageError(
            f"cannot write the run folder {run.path}: {error.strerror}; give a book in a folder "
            "that can be written to"
        ) from None


def forget_failed_start(run: RunFolder) -> None:
    """Clear what a start that trained nothing left behind, keeping the author's page.

    Raises BookError where that is behind a link.
    """
    refuse_linked_run(run)
    for path in (run.seal_json, run.data_json, run.plan_json, run.wandb_json):
        path.unlink(missing_ok=True)
    for folder in (run.events, run.tensorboard):
        shutil.rmtree(folder, ignore_errors=True)


def has_trained(run: RunFolder) -> bool:
    """Tell whether a start of the run took a step, so that it is resumed and not begun anew."""
    events = read_events(run, superseded=True)
    return bool(events.steps or events.checkpoints or run.final.exists())
