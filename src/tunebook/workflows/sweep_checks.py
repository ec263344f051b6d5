"""What is wrong with a sweep, before anything of it is trained."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunebook.book.atomic import write_text
from tunebook.book.sweeps import SweepFolder, SweepTrial
from tunebook.errors import BookError, RunFileError
from tunebook.recipe.sweep import LISTED, Sweep, load_sweep, overrides_of
from tunebook.recipe.tree import Recipe
from tunebook.regular import read_regular
from tunebook.workflows.train import load_recipe

_SEEDS = 2**32

# What names a run and decides nothing in it.
_NO_WORK = ("name", "extends", "notebook", "accept")
# What may change while a sweep goes on.
_FREE = ("budget", "retries", "price_per_hour", "by", "stop_on")


def run_of(found: Sweep, path: Path) -> str:
    """Give the run file that is varied, relative to the sweep file, or the name of a run."""
    beside = path.parent / found.run
    return str(beside) if beside.is_file() else found.run


def with_paths(found: Sweep, folder: Path) -> Sweep:
    """Take relative paths among the values from the sweep file's folder, as a run file does."""

    def whole(value: Any) -> Any:
        beside = folder / value if isinstance(value, str) else None
        return str(beside.resolve()) if beside is not None and beside.exists() else value

    over = {
        key: [whole(value) for value in values]
        if isinstance(values, list) and (key == "model" or key.endswith(".path"))
        else values
        for key, values in found.over.items()
    }
    return found.model_copy(update={"over": over})


def check_points(found: Sweep, run: str, book: Path) -> Recipe:
    """Resolve the run file and each combination that is known; gives the run file's recipe.

    Raises RunFileError for what cannot be resolved, or would train the same run twice.
    """
    base = load_recipe(run, (), book).recipe
    if base.parts is not None and base.part is None:
        raise RunFileError(
            f"{run} trains in {base.parts} parts, which a sweep cannot vary; `part: 1` beside "
            "`parts` makes it a sweep on one of them"
        )
    if base.seed + found.seeds > _SEEDS:
        raise RunFileError(f"{run}: `seed: {base.seed}` leaves no {found.seeds} seeds after it")
    if found.search in LISTED:
        seen: dict[str, int] = {}
        for number, point in enumerate(found.grid(found.n_points), 1):
            recipe = load_recipe(run, overrides_of(point), book).recipe
            same = seen.setdefault(json.dumps(_work(recipe), sort_keys=True), number)
            if same != number:
                said = " ".join(overrides_of(point))
                raise RunFileError(
                    f"combination {number} ({said}) is the same run as combination {same}; leave "
                    "one of them out, or sweep what goes with other methods apart"
                )
    else:
        for key, values in found.over.items():
            stated = values if isinstance(values, list) else [values.low, values.high]
            for value in stated:
                load_recipe(run, overrides_of({key: value}), book)
    return base


def _work(recipe: Recipe) -> Mapping[str, Any]:
    """Give what decides about a run, without what its method has no use for."""
    values = recipe.model_dump(mode="json")
    idle = {"full": ("lora", "quantization", "relora"), "lora": ("quantization", "relora")}
    idle |= {"qlora": ("relora",), "relora": ("quantization",)}
    return {k: v for k, v in values.items() if k not in (*_NO_WORK, *idle[recipe.method])}


def refuse_taken(found: Sweep, trials: Sequence[SweepTrial], book: Path) -> None:
    """Raise BookError where a trial that is to come has the name of a run that is there."""
    ours = {trial.name for trial in trials}
    own = re.compile(re.escape(found.name) + r"-\d{3,}(-s\d+)?")
    for path in sorted((book / "runs").glob(f"{found.name}-*")):
        if own.fullmatch(path.name) and path.name not in ours:
            raise BookError(
                f"the name {path.name} is taken by a run that is none of this sweep; give the "
                "sweep another name"
            )


def refuse_other(folder: SweepFolder, found: Sweep, base: Recipe) -> None:
    """Raise BookError where a sweep of that name was of something else."""
    if not folder.sweep_yaml.exists():
        return
    before, _ = load_sweep(folder.sweep_yaml)
    free = [key for key in _FREE if (key, found.search) != ("by", "tpe")]
    changed = [
        f"`{key}`"
        for key in Sweep.model_fields
        if key not in free and getattr(before, key) != getattr(found, key)
    ]
    if folder.base_json.exists():
        was = _read_base(folder.base_json)
        now = dict(_work(base))
        changed += [
            f"`{key}` in {found.run}" for key in (was | now) if was.get(key) != now.get(key)
        ]
    if changed:
        raise BookError(
            f"sweep {found.name} was begun with another {changed[0]}; give this one another name, "
            f"or put back what {folder.path} says"
        )


def _read_base(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(path))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BookError(
            f"{path} is damaged, and says no more what the sweep began with; put back what stood "
            "there, or give the sweep another name"
        )
    return found


def keep_base(folder: SweepFolder, base: Recipe) -> None:
    """Write down what is varied, so that a changed run file is not mixed in."""
    if not folder.base_json.exists():
        write_text(folder.base_json, json.dumps(_work(base), indent=1) + "\n")
