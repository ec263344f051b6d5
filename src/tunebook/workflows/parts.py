"""A training set in parts: a chain of runs, each from the weights of the one before.

Every part is an ordinary run in a folder of its own, so it is shown, stopped and resumed like one.
The run file is read anew for every part: the data of a later part may change, and what changed is
said and written into its `resolved.yaml`.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder
from tunebook.book.summary import summarize
from tunebook.errors import BookError, RunEnded, RunFileError
from tunebook.recipe.load import LoadedRecipe, read_resolved
from tunebook.recipe.tree import SLUG, Recipe
from tunebook.recipe.yaml_text import read_text
from tunebook.records import RunSummary
from tunebook.workflows.changes import changed_settings, refuse_changes, words
from tunebook.workflows.launch import Watcher
from tunebook.workflows.release_part import release_part
from tunebook.workflows.run_folder import has_trained
from tunebook.workflows.train import load_recipe, start_run, train_run

_OWN = ("name", "extends", "model", "part", "add_tokens", "notebook.")
"""Keys in which a part may differ from the one before without a word."""


def train_parts(
    run_file: str | Path | Mapping[str, Any],
    overrides: Sequence[str],
    book: Path,
    watch: Watcher,
) -> RunSummary:
    """Train the parts of a run file that are not trained yet, and give the last one's summary.

    A finished part is skipped and a paused one resumed. Each is released when it is trained; a
    release that fails for want of room or memory is said at once and again at the end, and one
    whose weights are not those that were trained ends the chain, as the next part would start from
    them. Raises RunEnded for both, BookError when a part cannot go on, RunFileError when the run
    file no longer fits the parts before.
    """
    before: RunFolder | None = None
    part = parts = 1
    failed: list[str] = []
    while part <= parts:
        loaded = of_part(load_recipe(run_file, overrides, book), part, before)
        parts = loaded.recipe.parts or 1
        run = RunFolder(book, loaded.recipe.name)
        try:
            _train_part(run, loaded, before, watch)
            if loaded.recipe.release_parts and (why := release_part(run, watch)):
                rest = ", the next part begins all the same" * (part < parts)
                watch("note", {"text": f"not released{rest}: {why}"})
                failed.append(why)
        except RunEnded as ended:
            command = _again(run_file, overrides)
            rest = f"`{command}` goes on with this part and those after it"
            raise RunEnded(f"{ended}; {rest}", ended.exit_code) from None
        before, part = run, part + 1
    assert before is not None
    if failed:
        raise RunEnded(
            f"all {parts} parts are trained, and {len(failed)} of them not released, the first of "
            f"them {failed[0]}; `{_again(run_file, overrides)}` releases them",
            1,
        )
    return summarize(before)


def _again(run_file: str | Path | Mapping[str, Any], overrides: Sequence[str]) -> str:
    shown = "RUN.yaml" if isinstance(run_file, Mapping) else str(run_file)
    return shlex.join(["tunebook", "train", shown, *overrides])


def of_part(loaded: LoadedRecipe, part: int, before: RunFolder | None) -> LoadedRecipe:
    """Make the recipe of one part: its name, its slice, and the weights it starts from."""
    recipe = loaded.recipe
    if recipe.parts is None or recipe.part is not None:
        raise RunFileError(f"{recipe.name}: the run file no longer says `parts` alone; put it back")
    own: dict[str, Any] = {
        "name": f"{recipe.name}-part-{part}",
        "model": recipe.model if before is None else f"run:{before.name}",
        "parts": recipe.parts,
        "part": part,
    }
    if before is not None and recipe.method == "full":
        own["add_tokens"] = []  # the weights of the part before have them
    if not SLUG.match(own["name"]):
        raise RunFileError(f"`{own['name']}` cannot name a run: make the name shorter")
    if before is not None:
        _refuse_other_slices(before, _recipe_of(before), recipe)
    return LoadedRecipe(
        recipe=recipe.model_copy(update=own),
        written=_restate(loaded.written, own),
        inherited={**loaded.inherited, **dict.fromkeys(own, "parts")},
        chain=loaded.chain,
    )


def _train_part(
    run: RunFolder, loaded: LoadedRecipe, before: RunFolder | None, watch: Watcher
) -> None:
    recipe = loaded.recipe
    place = f"part {recipe.part} of {recipe.parts}"
    state = current_state(run)
    if run.started():
        _refuse_stranger(run, recipe, place)
    if state == "finished":
        watch("note", {"text": f"{place}: {run.name} is finished"})
        return
    if state == "running":
        raise BookError(
            f"run {run.name} is being trained; `tunebook stop {run.name}` lets it save and pause"
        )
    if state == "stopped":
        raise BookError(
            f"run {run.name} was stopped by a verdict, so {place} has no end to go on from; mend "
            f"the cause, move {run.path} aside and train again"
        )
    if run.started() and has_trained(run):
        refuse_changes(run, watch)
        watch("note", {"text": f"{place}: {run.name} goes on"})
        for text in words(changed_settings(_recipe_of(run), recipe, _OWN)):
            watch("note", {"text": f"not taken over, {run.name} has begun without it: {text}"})
    else:
        _start(run, loaded, before, watch, place)
    train_run(run, watch)


def _refuse_other_slices(run: RunFolder, then: Recipe, now: Recipe) -> None:
    if then.parts != now.parts:
        raise RunFileError(
            f"parts: {now.parts}, and {run.name} is part {then.part} of {then.parts}: the slices "
            f"would overlap; say parts: {then.parts}, or take another name"
        )


def _refuse_stranger(run: RunFolder, recipe: Recipe, place: str) -> None:
    """Refuse to take a run for a part that is none, or is one of other weights."""
    text = read_text(run.resolved_yaml) if run.resolved_yaml.exists() else ""
    if not text:
        return
    then, environment = read_resolved(text)
    if then.part is not None:
        _refuse_other_slices(run, then, recipe)
    model = environment.get("model_as_written")
    if (then.part, then.parts) != (recipe.part, recipe.parts) or (
        recipe.part != 1 and model != recipe.model
    ):
        raise BookError(
            f"run {run.name} is not {place} on {recipe.model}: it is part {then.part} of "
            f"{then.parts} on {model}; give this chain another name"
        )


def _start(
    run: RunFolder, loaded: LoadedRecipe, before: RunFolder | None, watch: Watcher, place: str
) -> None:
    own_file = run.run_yaml.exists() and not run.started()
    if own_file and read_text(run.run_yaml) != loaded.written:
        raise BookError(
            f"{place} would be called {run.name}, and there is another run file of that name; "
            "rename one of the two"
        )
    changed = changed_settings(_recipe_of(before), loaded.recipe, _OWN) if before else {}
    origin = "" if before is None else f" from the weights of {before.name}"
    watch("note", {"text": f"{place}: {run.name} starts{origin}"})
    for text in words(changed):
        watch("note", {"text": f"changed since {before.name if before else ''}: {text}"})
    start_run(run.book, loaded, {"changed": changed} if before else {})


def _recipe_of(run: RunFolder) -> Recipe:
    return read_resolved(read_text(run.resolved_yaml))[0]


def _restate(written: str, own: Mapping[str, object]) -> str:
    """State in a run file what is a part's own; comments and order stay as they were."""
    yaml = YAML()
    yaml.version = (1, 2)
    yaml.preserve_quotes = True
    values = yaml.load(written)
    for key, value in own.items():
        values[key] = value
    out = io.StringIO()
    yaml.version = None
    yaml.dump(values, out)
    return out.getvalue()
