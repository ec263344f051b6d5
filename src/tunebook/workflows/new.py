"""Write the run file of a new run, whole and valid, without touching its data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tunebook.book.atomic import storage_errors, write_text
from tunebook.book.places import RunFolder, list_runs, open_run, run_file_of
from tunebook.errors import BookError

_START = """\
# A run: `tunebook train {name}` starts it. Every key is in `tunebook schema`.
name: {name}
model: tunebook/tiny                 # a folder or a hub id; tunebook/tiny needs no download
stage: sft                           # sft: prompts and responses; cpt: plain text
method: full                         # full | lora
data:
  - path: ../../data/train.json      # relative to this file; alpaca, chat, lines, text, ...
train:
  epochs: 1
  effective_batch_size: 32
  learning_rate: 5e-5
notebook:
  hypothesis: ~                      # why this run is made
  predict: []                        # such as: [val_loss < base_val_loss, no non_finite]
"""
_PREDICT_HINT = """
# Say what you expect before it runs:
# notebook:
#   hypothesis: ...
#   predict: [{prediction}, no non_finite]
"""


def new_run(
    book: Path, name: str, overrides: Sequence[str] = (), parent: str | None = None
) -> RunFolder:
    """Write `runs/NAME/run.yaml` and return the run, in state new.

    `parent` is a run of the book or a run file; the new file extends it and states only what
    changes. BookError when the name is taken, RunFileError when a value is not valid.
    """
    run = RunFolder(book, name)
    if run.path.exists():
        raise BookError(f"the name {name} is taken: {run.path} exists; choose another name")
    text = _child(book, run, parent, overrides) if parent else _start(book, run, overrides)
    with storage_errors(f"make the run {name}", book):
        run.path.mkdir(parents=True)
        try:
            write_text(run.run_yaml, text)
        except BaseException:  # a folder without a run file would keep the name
            run.path.rmdir()
            raise
    return run


def _start(book: Path, run: RunFolder, overrides: Sequence[str]) -> str:
    text = _START.format(name=run.name)
    if not overrides:
        return text
    from tunebook.recipe.load import write_values
    from tunebook.recipe.yaml_text import parse_yaml

    values = parse_yaml(text, "the starting file").values
    return write_values(state_overrides(book, run, values, overrides))


def _child(book: Path, run: RunFolder, parent: str, overrides: Sequence[str]) -> str:
    from tunebook.recipe.load import write_values

    extends, prediction = _extends(book, run, parent)
    # The run's folder is made only once all is valid: until then a relative path leads nowhere.
    whole = extends if extends == parent else str(Path(parent).resolve())
    stated = state_overrides(book, run, {"extends": whole, "name": run.name}, overrides)
    stated["extends"] = extends
    text = write_values(stated)
    return text if "notebook" in stated else text + _PREDICT_HINT.format(prediction=prediction)


def _extends(book: Path, run: RunFolder, parent: str) -> tuple[str, str]:
    """Return what `extends` says, and a prediction that fits it.

    A run's name comes first: that a file of that name lies about must not change the meaning.
    """
    if parent in {known.name for known in list_runs(book)}:
        return parent, f"val_loss < {parent}.val_loss"
    path = Path(parent)
    if path.is_file():
        try:
            relative = os.path.relpath(path.resolve(), run.path.resolve())
        except ValueError:  # another drive
            relative = str(path.resolve())
        return relative, "val_loss < base_val_loss"
    from tunebook.recipe.yaml_text import refuse_pipe

    refuse_pipe(path)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise BookError(f"there is no run file {parent}; name a run file or a run of this book")
    open_run(book, parent)
    raise AssertionError("open_run names the nearest run")


def state_overrides(
    book: Path, run: RunFolder, values: dict[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """Lay overrides over what a run file states, as the recipe reads them.

    An entry of a list cannot be stated alone, so changing one states the whole list.
    """
    from tunebook.recipe.load import recipe_from_mapping

    origin = f"runs/{run.name}/run.yaml"
    find_run = partial(run_file_of, book)
    loaded = recipe_from_mapping(values, origin, run.path, overrides, find_run)
    whole = loaded.recipe.model_dump(mode="json")
    stated = dict(values)
    for override in overrides:
        parts = override.partition("=")[0].strip().split(".")
        number = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts))
        _put(stated, parts[:number], whole)
    return stated


def _put(stated: dict[str, Any], parts: Sequence[str], whole: Mapping[str, Any]) -> None:
    value: Any = whole
    for part in parts:
        value = value[part]
    holder = stated
    for part in parts[:-1]:
        below = holder.get(part)
        holder[part] = holder = dict(below) if isinstance(below, dict) else {}
    holder[parts[-1]] = value
