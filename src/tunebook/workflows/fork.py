"""Go on with a run as another one, with what changed since: `tunebook resume NAME --fork NEW`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tunebook.book.checkpoints import MANIFEST, newest_good_checkpoint, writing_checkpoint
from tunebook.book.content import weights_hash
from tunebook.book.events import read_events
from tunebook.book.inside import refuse_linked_run
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder, run_file_of
from tunebook.book.run_file import resumed_from
from tunebook.errors import BookError, ParentMismatch, RunFileError
from tunebook.recipe.load import read_resolved, recipe_from_mapping, write_values
from tunebook.recipe.tree import Recipe
from tunebook.recipe.yaml_text import read_text
from tunebook.workflows.changes import (
    Changes,
    changed_settings,
    changed_weights,
    edited_settings,
    find_changes,
    run_file_now,
    trained_recipe,
    words,
)
from tunebook.workflows.new import state_overrides
from tunebook.workflows.train import start_run

NOT_ON_A_FORK = (
    "model",
    "stage",
    "method",
    "precision",
    "part",
    "lora.rank",
    "lora.alpha",
    "lora.target_modules",
    "lora.layers",
    "lora.variant",
    "quantization.",
    "relora.",
    "freeze",
    "add_tokens",
    "train.optimizer",
    "train.effective_batch_size",
)
"""Beginnings of the keys that a checkpoint's tensors, or its place in the data, are made for."""
_OF_THE_PLAN = ("micro_batch_size", "gradient_checkpointing")


def fork_run(run: RunFolder, name: str, overrides: Sequence[str]) -> tuple[RunFolder, Changes]:
    """Make a run that goes on from the newest good checkpoint of another, with what changed.

    It extends the other run and states what its run file, or `overrides`, say otherwise. Gives the
    new run and all that changed. Raises BookError when the name is taken, there is no checkpoint,
    or a change does not fit it; nothing is written then.
    """
    child = RunFolder(run.book, name)
    if child.path.exists() and not _never_began(child, run):
        raise BookError(f"the name {name} is taken: {child.path} exists; choose another name")
    resolved, environment = read_resolved(read_text(run.resolved_yaml))
    checkpoint, _ = newest_good_checkpoint(run)
    if checkpoint is None:
        raise BookError(
            f"run {run.name} has no whole checkpoint to go on from; `tunebook new {name} --from "
            f"{run.name}` makes a run that starts anew"
        )
    now = run_file_now(run, resolved, environment)
    edited = edited_settings(resolved, environment, now)
    whole = now.recipe.model_dump(mode="json") if now is not None else {}
    stated = [
        *dict.fromkeys(_override(key, value, whole) for key, (_, value) in edited.items()),
        *overrides,
    ]
    origin = f"runs/{name}/run.yaml"
    values = state_overrides(run.book, child, {"extends": run.name, "name": name}, stated)
    find_run = partial(run_file_of, run.book)
    loaded = recipe_from_mapping(values, origin, child.path, (), find_run)
    # Its model is what the run began with, wherever `run:NAME/best` leads by now.
    same = loaded.recipe.model in (resolved.model, environment.get("model_as_written"))
    recipe = loaded.recipe.model_copy(update={"model": resolved.model}) if same else loaded.recipe
    trained = trained_recipe(run, resolved)
    changed = changed_settings(trained, recipe)
    _refuse_unfit(run, resolved, environment, changed)
    position = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    _refuse_without_steps(run, recipe, position, changed)
    resumed = {
        "run": run.name,
        "step": position["step"],
        "weights": weights_hash(checkpoint, run.book),
        "changed": {**find_changes(run), **changed},
    }
    kept = ("model_as_written", "base_weights", "parent_weights", "adapter", "precision")
    remarks = {key: environment[key] for key in kept if key in environment}
    loaded = replace(loaded, recipe=recipe, written=write_values(values))
    refuse_linked_run(child)
    shutil.rmtree(child.checkpoints, ignore_errors=True)  # of one that never began
    start_run(run.book, loaded, {**remarks, "resumed_from": resumed})
    _take_checkpoint(checkpoint, child, _moved(position, recipe, changed))
    return child, resumed["changed"]


def _refuse_without_steps(
    run: RunFolder, recipe: Recipe, position: dict[str, Any], changed: Changes
) -> None:
    """Raise BookError when no step is left; other data is held against it by the trainer."""
    step, most = position["step"], recipe.train.max_steps
    if most is not None and most <= step:
        raise BookError(
            f"a fork of {run.name} goes on from step {step}, and train.max_steps is {most}, so no "
            "step is left; give train.max_steps=N with more steps"
        )
    if step >= position["total_steps"] and not changed:
        raise BookError(
            f"run {run.name} has trained all its {step} steps, so a fork of it has none left; give "
            "train.epochs=N with more epochs, or change what is to be trained on"
        )


def _never_began(child: RunFolder, run: RunFolder) -> bool:
    """Tell whether a fork of a run ended before its first step: it holds nothing of its own."""
    try:
        text = read_text(child.resolved_yaml)
        fork = resumed_from(read_resolved(text)[1])
    except (OSError, RunFileError):
        return False
    events = read_events(child, superseded=True)
    ended = current_state(child, events) in ("paused", "failed")
    return fork is not None and fork[0] == run.name and ended and not events.steps


def _override(key: str, value: object, whole: dict[str, Any]) -> str:
    # Sources are stated together: one that is gone has no key of its own.
    if key.startswith("data."):
        return f"data={json.dumps(whole['data'])}"
    return f"{key}={json.dumps(value)}"


def _refuse_unfit(
    run: RunFolder, resolved: Recipe, environment: dict[str, object], changed: Changes
) -> None:
    unfit = {key: change for key, change in changed.items() if key.startswith(NOT_ON_A_FORK)}
    if unfit:
        raise BookError(
            f"a fork of {run.name} cannot have {'; '.join(words(unfit))}: its checkpoint was made "
            f"otherwise; leave that as it was, or start anew with `tunebook new NEW --from "
            f"{run.name}`"
        )
    if resolved.method != "full" and (other := changed_weights(run, resolved, environment)):
        raise ParentMismatch(
            f"a fork of {run.name} would put its adapter on another base: "
            f"{'; '.join(words(other))}; put back what was there"
        )


def _moved(position: dict[str, Any], recipe: Recipe, changed: Changes) -> dict[str, Any]:
    """Make the new run's position of the old one's; what was best so far was the other run's."""
    sizes = {key: None for key in _OF_THE_PLAN if f"train.{key}" in changed}
    best = {"best_step": None, "best_loss": None}
    return {**position, **best, **sizes, "recipe": recipe.model_dump(mode="json")}


def _take_checkpoint(checkpoint: Path, child: RunFolder, position: dict[str, Any]) -> None:
    with writing_checkpoint(child, position["step"]) as folder:
        for path in sorted(checkpoint.rglob("*")):
            target = folder / path.relative_to(checkpoint)
            if path.is_dir():
                target.mkdir()
            elif path.name not in (MANIFEST, "state.json"):
                try:
                    os.link(path, target)
                except OSError:  # another volume, or one without links
                    shutil.copy2(path, target)
        text = json.dumps(position, indent=2) + "\n"
        (folder / "state.json").write_text(text, encoding="utf-8")
