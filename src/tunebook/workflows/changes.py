"""What changed since a run began: settings, data, libraries, and the weights it began with.

A resumed run ends in the weights of an uninterrupted one, which holds only while nothing that
decides them changed. Settings are compared by value with defaults filled in, so that a release with
new keys goes on with the runs of an older one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunebook.book.atomic import write_atomically
from tunebook.book.checkpoints import list_checkpoints, manifest_hash, read_manifest
from tunebook.book.content import short, weights_hash
from tunebook.book.data_account import read_data
from tunebook.book.events import read_events
from tunebook.book.places import RunFolder
from tunebook.book.run_file import flatten
from tunebook.errors import BookError, CheckpointError, ParentMismatch, RunFileError, TunebookError
from tunebook.recipe.extend import Layer
from tunebook.recipe.load import (
    DEFAULT,
    LoadedRecipe,
    dump_resolved,
    read_resolved,
    recipe_from_values,
)
from tunebook.recipe.overrides import COMMAND_LINE, apply_overrides
from tunebook.recipe.tree import Recipe
from tunebook.recipe.yaml_text import read_text
from tunebook.regular import read_regular
from tunebook.workflows.launch import Watcher
from tunebook.workflows.train import library_versions, load_recipe, origin_of, refuse_on_several

Changes = dict[str, list[object]]
"""What changed, by key: [then, now]."""

_OWN = ("name", "extends", "notebook.", "accept")
"""Keys that say nothing about what is computed."""
TAKEN_OVER = ("devices", "report_to")
"""Keys that a resume takes over: the same steps are taken, on other devices or told to others."""
_PARENT = "parent-mismatch: "
# These two keep their results from one small release to the next; every other one is compared
# to the last digit. safetensors only stores bytes, and Python computes none of the numbers.
_BY_MINOR_RELEASE = ("tunebook", "numpy")
_NOT_COMPARED = ("safetensors", "python")


def changed_settings(then: Recipe, now: Recipe, own: tuple[str, ...] = _OWN) -> Changes:
    """List the settings in which two recipes differ, but for those that begin with `own`."""
    old, new = (flatten(one.model_dump(mode="json")) for one in (then, now))
    return {
        key: [old.get(key), new.get(key)]
        for key in sorted({*old, *new})
        if not key.startswith(own) and old.get(key) != new.get(key)
    }


def changed_versions(
    then: Mapping[str, Any], now: Mapping[str, str | None], recipe: Recipe
) -> Changes:
    """List the libraries whose release differs and that this run computes with; None is gone."""
    changed: Changes = {}
    for name, here in now.items():
        before = then.get(name)
        if before is None or name in _NOT_COMPARED or (name == "peft" and recipe.method == "full"):
            continue
        digits = 2 if name in _BY_MINOR_RELEASE else None
        if here is None or str(before).split(".")[:digits] != here.split(".")[:digits]:
            changed[name] = [before, here]
    return changed


def words(changes: Mapping[str, list[object]]) -> list[str]:
    """Say each change as `key: then -> now`."""
    return [f"{key}: {_shown(then)} -> {_shown(now)}" for key, (then, now) in changes.items()]


def trained_recipe(run: RunFolder, resolved: Recipe) -> Recipe:
    """Give the recipe that a run's newest checkpoint was trained by, or the resolved one."""
    for folder in reversed(list_checkpoints(run)):
        # One that is damaged says nothing; it is named when the checkpoint is read as a whole.
        with contextlib.suppress(CheckpointError, OSError, ValueError, KeyError, RunFileError):
            text = read_regular(folder / "state.json")
            whole = read_manifest(folder)["state.json"]["sha256"]
            values = json.loads(text)["recipe"]
            if isinstance(values, dict) and hashlib.sha256(text).hexdigest() == whole:
                return recipe_from_values(values, f"{folder.name}/state.json")
    return resolved


def run_file_now(
    run: RunFolder, resolved: Recipe, environment: Mapping[str, Any]
) -> LoadedRecipe | None:
    """Read the run file that a run was started from again, with what its command line said.

    None for a file that is gone or is another run's by now, and for a part's, which is read anew
    for the parts to come.
    """
    old = flatten(resolved.model_dump(mode="json"))
    overrides = [
        f"{key}={json.dumps(old[key])}"
        for key, source in _inherited(environment).items()
        if source == COMMAND_LINE and key in old
    ]
    try:
        loaded = load_recipe(str(origin_of(run)), overrides, run.book)
    except TunebookError as error:
        if resolved.part is not None or _same_text(run):
            return None
        raise RunFileError(
            f"run {run.name}: its run file changed since it began, and is none any more: {error}; "
            "put it back"
        ) from None
    return loaded if resolved.part is None and loaded.recipe.name == resolved.name else None


def edited_settings(
    resolved: Recipe, environment: Mapping[str, Any], now: LoadedRecipe | None
) -> Changes:
    """List what the run file that a run was started from says otherwise by now."""
    if now is None:
        return {}
    named = environment.get("model_as_written")
    then = resolved.model_copy(update={"model": named}) if isinstance(named, str) else resolved
    inherited = _inherited(environment)
    return {
        key: change
        for key, change in changed_settings(then, now.recipe).items()
        # Where neither file says it, it is a default of another release.
        if not (now.inherited.get(key) == DEFAULT == inherited.get(key, DEFAULT))
    }


def changed_weights(run: RunFolder, recipe: Recipe, environment: Mapping[str, Any]) -> Changes:
    """List the parent or the base of a run whose files are not those it began with.

    What a full run began with may be gone: all its weights are in its checkpoints. Raises
    ModelError when an adapter's base is gone.
    """
    # The hub's client takes a while to import.
    from tunebook.models.find import find_model

    changes: Changes = {}
    then, adapter = environment.get("parent_weights"), environment.get("adapter")
    if isinstance(then, str) and isinstance(adapter, str):
        with contextlib.suppress(TunebookError):
            now = manifest_hash(Path(adapter))
            if now != then:
                changes[f"{_PARENT}the adapter in {adapter}"] = [short(then), short(now)]
    then = environment.get("base_weights")
    if isinstance(then, str):
        try:
            now = weights_hash(find_model(recipe.model), run.book)
        except TunebookError:
            if recipe.method != "full" or not list_checkpoints(run):
                raise
            return changes
        if now != then:
            changes[f"{_PARENT}the weights of {recipe.model}"] = [short(then), short(now)]
    return changes


def changed_data(run: RunFolder) -> Changes:
    """List the sources whose files have other bytes than when the run began.

    All of them are read; a source that cannot be read is left to the one who needs its rows.
    """
    from tunebook.data.sources import hash_files, locate

    changes: Changes = {}
    for source in read_data(run).get("sources") or []:
        with contextlib.suppress(TunebookError, OSError, KeyError):
            then, now = str(source["content_hash"]), hash_files(locate(str(source["path"])))
            if then != now:
                changes[str(source["path"])] = [short(then), short(now)]
    return changes


def find_changes(run: RunFolder) -> Changes:
    """List everything that changed since a run began, but its device, which its trainer knows.

    Data is read only where something else changed: the trainer reads it in any case.
    """
    resolved, environment = read_resolved(read_text(run.resolved_yaml))
    changes = changed_settings(trained_recipe(run, resolved), resolved)
    changes |= edited_settings(resolved, environment, run_file_now(run, resolved, environment))
    then = environment.get("versions")
    changes |= changed_versions(
        then if isinstance(then, dict) else {}, library_versions(resolved), resolved
    )
    changes |= changed_weights(run, resolved, environment)
    if changes.keys() - set(TAKEN_OVER):
        changes |= changed_data(run)
    return changes


def refuse_changes(run: RunFolder, watch: Watcher, overrides: Sequence[str] = ()) -> None:
    """Raise BookError, or ParentMismatch for weights, with all that changed since a run began.

    What a resume may take over, from its run file or from `overrides`, is written to
    `resolved.yaml` and told to `watch`.
    """
    changes = find_changes(run)
    refused = {key: change for key, change in changes.items() if key not in TAKEN_OVER}
    if refused:
        kind = ParentMismatch if any(key.startswith(_PARENT) for key in refused) else BookError
        raise kind(
            f"run {run.name} cannot go on as it began: {'; '.join(words(refused))}; put that back, "
            f"or {_way_out(run)}"
        )
    resolved, environment = read_resolved(read_text(run.resolved_yaml))
    recipe, layer = _taking_over(resolved, changes, overrides)
    taken = changed_settings(resolved, recipe)
    if taken:
        refuse_on_several(recipe, recipe.devices)
        if overrides:
            environment["inherited"] = {**_inherited(environment), **layer.source}
        write_atomically(run.resolved_yaml, dump_resolved(recipe, environment))
    for text in words(taken):
        watch("note", {"text": f"taken over: {text}"})


def _taking_over(
    resolved: Recipe, changes: Changes, overrides: Sequence[str]
) -> tuple[Recipe, Layer]:
    stated = [f"{key}={now}" for key, (_, now) in changes.items()]
    layer = apply_overrides(
        Layer(resolved.model_dump(mode="json")), [*stated, *overrides], Path.cwd()
    )
    return recipe_from_values(layer.values, "resolved.yaml"), layer


def resumed_recipe(run: RunFolder, overrides: Sequence[str]) -> Recipe:
    """Give a run's recipe with what a resume takes over; RunFileError for an `override` of it.

    It is the same before and after `refuse_changes` wrote it down, so that every host knows it.
    """
    resolved, environment = read_resolved(read_text(run.resolved_yaml))
    edited = edited_settings(resolved, environment, run_file_now(run, resolved, environment))
    changes = {key: change for key, change in edited.items() if key in TAKEN_OVER}
    return _taking_over(resolved, changes, overrides)[0]


def _way_out(run: RunFolder) -> str:
    if list_checkpoints(run):
        return f"`tunebook resume {run.name} --fork NEW` goes on with it as a new run"
    if read_events(run, superseded=True).steps:
        return f"`tunebook new NEW --from {run.name}` makes a run that starts anew"
    return f"`tunebook train {run.name}` starts it with that"


def _inherited(environment: Mapping[str, Any]) -> Mapping[str, object]:
    found = environment.get("inherited")
    return found if isinstance(found, dict) else {}


def _same_text(run: RunFolder) -> bool:
    try:
        return read_regular(origin_of(run)) == read_regular(run.run_yaml)
    except (TunebookError, OSError):
        return True


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
