"""The folder that a run begins with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from tunebook.book.atomic import write_atomically
from tunebook.book.events import read_events
from tunebook.book.inside import refuse_linked_run
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder
from tunebook.book.run_file import resumed_from
from tunebook.errors import BookError, StorageError
from tunebook.recipe.load import read_resolved
from tunebook.recipe.yaml_text import read_text


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


def refuse_taken(run: RunFolder, remarks: Mapping[str, object] | None = None) -> None:
    """Raise BookError when a run of that name trained something; `remarks` are the new run's.

    So it does where there is a link in place of what would be written.
    """
    refuse_linked_run(run)
    if not run.started():
        return
    name, state = run.name, current_state(run)
    anew = f"`tunebook new NAME --from {name}` makes another"
    if state == "running":
        raise BookError(
            f"run {name} is being trained; `tunebook stop {name}` lets it save and pause"
        )
    if state == "finished":
        raise BookError(
            f"run {name} is finished; {anew}, `model: run:{name}` in a new run file trains on from "
            "its weights"
        )
    if state == "stopped":
        raise BookError(f"run {name} was stopped by a verdict; {anew}")
    _refuse_to_forget_fork(run, remarks or {})
    if has_trained(run):
        raise BookError(
            f"run {name} was started before; `tunebook resume {name}` goes on with it, {anew}"
        )


def _refuse_to_forget_fork(run: RunFolder, remarks: Mapping[str, object]) -> None:
    if "resumed_from" in remarks or not run.resolved_yaml.exists():
        return
    fork = resumed_from(read_resolved(read_text(run.resolved_yaml))[1])
    if fork is not None:
        raise BookError(
            f"run {run.name} goes on from step {fork[1]} of run {fork[0]}, and would begin anew; "
            f"`tunebook resume {run.name}` goes on with it, `tunebook resume {fork[0]} --fork "
            f"{run.name}` makes it once more if it never began"
        )


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
