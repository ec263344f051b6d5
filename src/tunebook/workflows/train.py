"""From a run file to a finished run and its notebook page: read this file first.

1. The run file becomes one resolved recipe; every mistake in it ends here, with nothing written.
2. The run folder is made: the run file as written, the resolved one, the sealed predictions.
3. A child process trains (`workflows.training` tells its story); this one shows its events.
4. The run's page and the index page are written, whatever way the run ended.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunebook import __version__
from tunebook.book.atomic import alone
from tunebook.book.checkpoints import list_checkpoints, manifest_hash
from tunebook.book.content import refuse_other_weights, verify_weights, weights_hash
from tunebook.book.places import RunFolder, find_book_of, list_runs, open_run, page_lock
from tunebook.book.predictions import check_predictions
from tunebook.book.seal import seal
from tunebook.book.summary import summarize
from tunebook.errors import (
    CheckpointError,
    ModelError,
    RunFileError,
    TunebookError,
)
from tunebook.recipe.load import (
    LoadedRecipe,
    dump_resolved,
    load_run_file,
    read_resolved,
    recipe_from_mapping,
)
from tunebook.recipe.tree import Recipe
from tunebook.recipe.yaml_text import read_text, refuse_no_file
from tunebook.records import RunSummary
from tunebook.workflows.at_once import refuse_at_once
from tunebook.workflows.hosts import Hosts
from tunebook.workflows.hypothesis import refuse_changed
from tunebook.workflows.join import join_run, refuse_on_hosts
from tunebook.workflows.launch import Watcher, train_in_child
from tunebook.workflows.notebook import build_last, build_notebook
from tunebook.workflows.reporters import refuse_without_library
from tunebook.workflows.run_folder import forget_failed_start, refuse_taken, write_folder


def train(
    run_file: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    accept: Sequence[str] = (),
    book: Path | None = None,
    watch: Watcher = lambda _kind, _payload: None,
    hosts: Hosts | None = None,
) -> RunSummary:
    """Train what a run file, a new run's name, or a mapping of the same keys describes.

    `accept` names checks that are accepted beside those of the run file; with `hosts` this is one
    of several that train it, of which the first makes the run.
    Raises RunFileError, BookError or DataError before anything is written; RunEnded, with the exit
    code that a command should have, when training did not reach its last step.
    """
    book = find_book_of(run_file) if book is None else book
    overrides = accepting(run_file, overrides, accept, book)
    loaded = load_recipe(run_file, overrides, book)
    if hosts is not None:
        refuse_on_hosts(loaded.recipe, hosts)
        if hosts.number:
            run, devices = RunFolder(book, loaded.recipe.name), loaded.recipe.devices
            return join_run(run, watch, hosts, devices=devices, resumes=False)
    refuse_at_once(loaded.recipe)
    if loaded.recipe.parts is not None and loaded.recipe.part is None:
        # Parts are trained one by one with the functions below.
        from tunebook.workflows.parts import train_parts

        return train_parts(run_file, overrides, book, watch)
    run = start_run(book, loaded)
    return train_run(run, watch, hosts)


def accepting(
    run_file: str | Path | Mapping[str, Any],
    overrides: Sequence[str],
    accept: Sequence[str],
    book: Path,
) -> Sequence[str]:
    """Add accepted checks to those of the run file, as one more override, so that it is kept."""
    if not accept:
        return overrides
    stated = load_recipe(run_file, overrides, book).recipe.accept
    return (*overrides, f"accept={json.dumps(list(dict.fromkeys((*stated, *accept))))}")


def train_run(run: RunFolder, watch: Watcher, hosts: Hosts | None = None) -> RunSummary:
    """Train a run whose folder is ready, and write the notebook however it ends."""
    resolved = read_text(run.resolved_yaml)
    refuse_without_library(read_resolved(resolved)[0].report_to)

    def say(text: str) -> None:
        watch("note", {"text": text})

    try:
        train_in_child(run, watch, hosts)
    except BaseException:
        # How the run ended matters more than a page that a full disk cannot take.
        with contextlib.suppress(TunebookError, OSError):
            build_notebook(run.book, say)
        raise
    build_last(run.book, f"run {run.name} is finished", say)
    return summarize(run)


def load_recipe(
    run_file: str | Path | Mapping[str, Any], overrides: Sequence[str], book: Path
) -> LoadedRecipe:
    """Resolve a run file (a path, or the name of a new run in the book) with its parents."""

    def find_run(name: str) -> Path:
        parent = open_run(book, name)
        return parent.resolved_yaml if parent.resolved_yaml.exists() else parent.run_yaml

    if isinstance(run_file, Mapping):
        loaded = recipe_from_mapping(
            run_file, "the mapping", Path.cwd(), overrides, find_run=find_run
        )
    else:
        path = Path(run_file)
        if not path.is_file():
            refuse_no_file(path, is_run=(book / "runs" / path.name).exists())
            path = origin_of(open_run(book, str(run_file)))
        loaded = load_run_file(path, overrides, find_run=find_run)
    check_predictions(loaded.recipe.notebook.predict, loaded.where)
    return loaded


def origin_of(run: RunFolder) -> Path:
    """Find the run file of a run: its own, or the one elsewhere that it was started from.

    The copy in the run's folder is no run file to start from: relative paths count from where the
    original stands.
    """
    if not run.resolved_yaml.exists():
        return run.run_yaml
    _, environment = read_resolved(read_text(run.resolved_yaml))
    origin = run.path / str(environment.get("run_file") or run.run_yaml.name)
    if not origin.is_file():
        raise RunFileError(
            f"run {run.name} was started from {origin.resolve()}, which is gone; put "
            f"{run.run_yaml} back there, or train a copy of it in a folder its paths count from"
        )
    return origin


def start_run(
    book: Path, loaded: LoadedRecipe, remarks: Mapping[str, object] | None = None
) -> RunFolder:
    """Make the run's folder and seal its predictions; BookError when the name was started before.

    A run that ended before its first step trained nothing, so its name may be used again. `remarks`
    are kept with the environment.
    """
    recipe, start = with_run_model(book, loaded.recipe)
    _refuse_planned_only(recipe)
    run = RunFolder(book, recipe.name)
    environment = {**describe_environment(loaded), **start, **(remarks or {})}
    if loaded.path is not None:
        environment["run_file"] = os.path.relpath(loaded.path, run.path)
    refuse_taken(run, remarks)
    if recipe.add_tokens:
        # The tokenizer's library takes a while to import, which other runs need not wait for.
        from tunebook.models.tokenizer import load_tokenizer, refuse_known_tokens

        refuse_known_tokens(load_tokenizer(recipe.model), recipe.add_tokens)
    environment |= _check_parent(book, loaded.recipe.model, recipe.model)
    resolved = dump_resolved(recipe, environment)
    # Who writes into the run file takes this lock too: words come before it is compared, or are
    # refused because the run has begun.
    with alone(page_lock(book)):
        refuse_changed(run, loaded)
        forget_failed_start(run)
        write_folder(run, resolved, loaded.written)
    seal(run, recipe.notebook.hypothesis, recipe.notebook.predict)
    return run


def _check_parent(book: Path, named: str, model: str) -> dict[str, object]:
    """Refuse weights of a run that are damaged, or an adapter whose base is not what it was.

    `named` is the run as the author named it, `model` what will be loaded of it. Gives what is
    known of the base already.
    """
    if not named.startswith("run:"):
        return {}
    parent, folder = find_weights(book, named)
    try:
        verify_weights(folder)
    except CheckpointError as error:
        raise _unusable(named, parent, error) from None
    if not (folder / "adapter_config.json").exists():
        return {}
    _, then = read_resolved(read_text(parent.resolved_yaml))
    if then.get("base_weights") is None:  # made before it was written down
        return {}
    # The hub's client takes a while to import, which other runs need not wait for.
    from tunebook.models.find import find_model

    refuse_other_weights(
        f"the adapter of run {parent.name}",
        model,
        str(then["base_weights"]),
        weights_hash(find_model(model), book),
        f"put back what {model} held, or start from another model",
    )
    return {"base_weights": then["base_weights"]}


def _unusable(named: str, parent: RunFolder, error: CheckpointError) -> RunFileError:
    there = [path.name for path in list_checkpoints(parent)]
    other = f"model: run:{parent.name}/{there[-1]}, or " if there else ""
    return RunFileError(f"model {named!r}: {error}; say {other}another run")


def _refuse_planned_only(recipe: Recipe) -> None:
    """Raise RunFileError for what can be planned here and not be trained."""
    refuse_on_several(recipe, recipe.devices)
    refuse_without_library(recipe.report_to)
    if recipe.method == "qlora" and find_spec("bitsandbytes") is None:
        raise RunFileError(
            "`method: qlora` needs bitsandbytes, which is not installed: "
            "`pip install 'tunebook[quant]'`, or say method: lora"
        )
    if recipe.train.optimizer == "adamw_8bit" and find_spec("bitsandbytes") is None:
        raise RunFileError(
            "`train.optimizer: adamw_8bit` needs bitsandbytes, which is not installed: "
            "`pip install 'tunebook[quant]'`, or say adamw"
        )


def refuse_on_several(recipe: Recipe, devices: int) -> None:
    """Raise RunFileError for what trains on one device only."""
    if devices == 1:
        return
    if recipe.method not in ("full", "lora"):
        raise RunFileError(
            f"`devices: {devices}`: method {recipe.method} trains on one device; say devices: 1, "
            "or method: lora"
        )
    if recipe.method == "full" and recipe.train.optimizer == "adamw_8bit":
        raise RunFileError(
            f"`devices: {devices}`: adamw_8bit cannot be spread over them; say "
            "train.optimizer: adamw, or devices: 1"
        )


def with_run_model(book: Path, recipe: Recipe) -> tuple[Recipe, dict[str, object]]:
    """Turn `model: run:NAME[/best]` into the folder of that run's weights.

    Of a run that trained an adapter, the model is its base and `adapter` the folder to go on from.
    `parent_weights` is the hash of all files of the folder.
    """
    if not recipe.model.startswith("run:"):
        _refuse_bare_run(book, recipe.model)
        return recipe, {}
    parent, folder = find_weights(book, recipe.model)
    try:
        start: dict[str, object] = {"parent_weights": manifest_hash(folder)}
    except CheckpointError as error:
        raise _unusable(recipe.model, parent, error) from None
    if not (folder / "adapter_config.json").exists():
        return recipe.model_copy(update={"model": str(folder)}), start
    base = _base_of_adapter(recipe, parent)
    return recipe.model_copy(update={"model": base}), {**start, "adapter": str(folder)}


def _refuse_bare_run(book: Path, model: str) -> None:
    """Raise ModelError where a model that is nowhere has the name of a run."""
    if model.partition("/")[0] not in {run.name for run in list_runs(book)}:
        return
    from tunebook.models.find import find_config

    try:
        find_config(model)
    except ModelError as error:
        raise ModelError(
            f"model {model!r}: did you mean `run:{model}`, a run of this book? ({error})"
        ) from None


def find_weights(book: Path, model: str) -> tuple[RunFolder, Path]:
    """Find the run and the folder that `run:NAME[/best|/step-N]` names; RunFileError if gone."""
    name, _, which = model[4:].partition("/")
    parent = open_run(book, name)
    folder = {"": parent.final, "best": parent.best}.get(which, parent.checkpoints / which)
    if not folder.is_dir():
        raise RunFileError(
            f"model {model!r}: run {name} has no {which or 'final'} weights; give run:NAME of a "
            "finished run, run:NAME/best or run:NAME/step-N"
        )
    return parent, folder.resolve()


def _base_of_adapter(recipe: Recipe, parent: RunFolder) -> str:
    """Give the model that a run's adapter is for; RunFileError when it cannot be trained on."""
    then = read_resolved(read_text(parent.resolved_yaml))[0]
    if recipe.method != then.method:
        raise RunFileError(
            f"model {recipe.model!r}: run {parent.name} trained an adapter, which only method "
            f"{then.method} trains on; say method: {then.method}, or train on the whole model that "
            f"`tunebook release {parent.name} FOLDER --merged` writes"
        )
    for section in ("lora", "quantization") if recipe.method == "qlora" else ("lora",):
        form, own = (getattr(r, section).model_dump() for r in (then, recipe))
        # How activations are kept is no part of what an adapter is.
        same = {"cache_activations"}
        changed = [key for key in form if key not in same and form[key] != own[key]]
        other = [f"{section}.{key}={json.dumps(form[key])}" for key in changed]
        if other:
            raise RunFileError(
                f"model {recipe.model!r}: its adapter keeps its form, which is that of run "
                f"{parent.name}; say {' '.join(other)}"
            )
    if then.add_tokens != recipe.add_tokens:
        raise RunFileError(
            f"model {recipe.model!r}: its adapter holds the embeddings of its new tokens; say "
            f"add_tokens: {json.dumps(then.add_tokens)}"
        )
    return then.model


def describe_environment(loaded: LoadedRecipe) -> dict[str, object]:
    """Collect what a later reader needs to know of this machine, without importing torch."""
    return {
        "versions": library_versions(loaded.recipe),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "parents": list(loaded.chain),
        "model_as_written": loaded.recipe.model,
        "inherited": dict(loaded.inherited),
    }


def library_versions(recipe: Recipe) -> dict[str, str | None]:
    """Give the releases of what a recipe would be trained with; None is not installed."""
    versions: dict[str, str | None] = {
        "tunebook": __version__,
        "python": platform.python_version(),
    }
    uses_bits = recipe.method == "qlora" or recipe.train.optimizer == "adamw_8bit"
    packages = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")
    for name in (*packages, *(("bitsandbytes",) if uses_bits else ())):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions
