"""Which weights of a run are meant, and whether they are what they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tunebook.book.checkpoints import checkpoint_step, list_checkpoints
from tunebook.book.content import refuse_other_weights, weights_hash
from tunebook.book.events import read_events
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder, open_run
from tunebook.book.run_file import imported_from
from tunebook.errors import BookError, UsageError
from tunebook.models.find import find_model
from tunebook.recipe.load import imported_words
from tunebook.recipe.tree import Recipe

BASE = "base"
"""What a run started from, as its weights are named."""


def refuse_missing(book: Path, name: str, weights: Sequence[str]) -> None:
    """Refuse a run or weights that are not there, before anything is imported that takes seconds.

    Raises BookError or UsageError.
    """
    run = open_run(book, name)
    refuse_imported(run)
    if not weights:
        raise UsageError("no weights are named; say --weights base,final")
    if not run.resolved_yaml.exists():
        raise BookError(
            f"run {run.name} has no weights yet; `tunebook train {run.name}` makes them"
        )
    for one in weights:
        if one != BASE:
            find_weights(run, one)


def refuse_imported(run: RunFolder) -> None:
    """Raise BookError for a run of somebody else's log, which has no weights."""
    if imported := imported_from(run):
        raise BookError(imported_words(run.name, imported.get("file")))


def find_weights(run: RunFolder, weights: str) -> Path:
    """Find final, best or step-N of a run; BookError says what there is instead."""
    refuse_imported(run)
    folder = {"final": run.final, "best": run.best}.get(weights, run.checkpoints / weights)
    if "/" in weights or not folder.is_dir():
        raise BookError(_no_such_weights(run, weights, current_state(run)))
    return folder.resolve()


def weights_step(run: RunFolder, folder: Path) -> int:
    """Give the step of weights that `find_weights` found."""
    if folder.parent == run.checkpoints.resolve():
        return checkpoint_step(folder)
    return max((step.step for step in read_events(run).steps), default=0)


def _no_such_weights(run: RunFolder, weights: str, state: str) -> str:
    there = [path.name for path in (run.final, run.best) if path.is_dir()]
    there += [path.name for path in list_checkpoints(run)]
    if there:
        way_out = f"there is {', '.join(there)}"
    else:
        verb = "train" if state == "new" else "resume"
        way_out = f"`tunebook {verb} {run.name}` trains it"
    return f"run {run.name} has no {weights} weights (it is {state}); {way_out}"


def base_hash(
    run: RunFolder, recipe: Recipe, environment: Mapping[str, object], say: Callable[[str], None]
) -> str:
    """Give the content hash of the model that a run was trained from.

    Raises ParentMismatch where the model is not the one it was trained on.
    """
    now = weights_hash(find_model(recipe.model), run.book)
    then = environment.get("base_weights")
    if not isinstance(then, str):
        say("the base's content was not written down by this run; its loss alone tells it again")
        return now
    refuse_other_weights(
        f"the adapter of run {run.name}" if "lora" in recipe.method else f"run {run.name}",
        recipe.model,
        then,
        now,
        f"put back what {recipe.model} held, or train again",
    )
    return now
