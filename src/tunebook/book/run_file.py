"""The run file and the resolved recipe of a run as plain mappings, for readers of a book.

Reading is lenient: a book with one broken file still shows its other runs. The strict reader,
with bounds and nearest keys, is the recipe's.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunebook.book.inside import read_text_inside, shown
from tunebook.book.places import RunFolder
from tunebook.errors import RunFileError
from tunebook.regular import NotReadable

_WEIGHTS = re.compile(r"^run:([^/]+)(?:/(.+))?$")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping; empty when the file is missing, too large or broken."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return {}
    # Parsing takes 20 ms, and a live run is asked for its recipe again with every step.
    return copy.deepcopy(_parse(path, stat.st_ino, stat.st_size, stat.st_mtime_ns))


@functools.lru_cache(32)  # of a recipe about 25 KB
def _parse(path: Path, *_stamp: int) -> dict[str, Any]:
    # The parser takes a tenth of a second to import, which a list from a warm index never needs.
    from tunebook.recipe.yaml_text import parse_yaml, read_text

    try:
        values = parse_yaml(read_text(path), path.name).values
    except RunFileError:
        return {}
    return values if isinstance(values, dict) else {}


def read_config(run: RunFolder) -> tuple[dict[str, Any], object]:
    """Read the resolved recipe of a started run, or the run file's own keys of a new one.

    The second value is the model as its author named it: a resolved `run:NAME` is a folder. That of
    a fork is the checkpoint it went on from.
    """
    resolved = read_own_yaml(run, run.resolved_yaml)
    recipe = resolved.get("recipe")
    if not isinstance(recipe, dict):
        own = read_own_yaml(run, run.run_yaml)
        return own, own.get("model")
    environment = resolved.get("environment")
    if fork := resumed_from(environment):
        return recipe, f"run:{fork[0]}/step-{fork[1]}"
    named = environment.get("model_as_written") if isinstance(environment, dict) else None
    return recipe, named or recipe.get("model")


def read_own_yaml(run: RunFolder, path: Path) -> dict[str, Any]:
    """Read a YAML file of a run; empty for a link out of it, of which nothing is told."""
    try:
        return read_yaml(shown(run.book, path))
    except NotReadable:
        return {}


def resumed_from(environment: object) -> tuple[str, int] | None:
    """Read from which run and step a fork went on, off a run's environment."""
    found = environment.get("resumed_from") if isinstance(environment, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(found.get("step"), int):
        return None
    return str(found.get("run")), int(found["step"])


def imported_from(run: RunFolder) -> Mapping[str, Any]:
    """Read what a run was imported from; empty for a run of this book's own."""
    try:
        text = read_text_inside(run.book, run.resolved_yaml)
    except OSError:
        return {}
    # As text first: YAML takes its time.
    if "\n  imported:\n" not in text:
        return {}
    environment = read_own_yaml(run, run.resolved_yaml).get("environment")
    found = environment.get("imported") if isinstance(environment, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write a tree as dotted keys: `lora.rank`, `data.0.path`; lists of plain values stay whole."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            items = {str(i): item for i, item in enumerate(value)}
            flat |= flatten(items, f"{name}.")
        else:
            flat[name] = value
    return flat


def weight_parent(model: object) -> tuple[str, str | None] | None:
    """Read which run (and which part of it) a `run:NAME[/part]` model comes from."""
    found = _WEIGHTS.match(model) if isinstance(model, str) else None
    return (found.group(1), found.group(2)) if found else None


def config_parent(config: Mapping[str, Any]) -> str | None:
    """Read the name of the run that a run extends, from a run name or the path of its file."""
    extends = config.get("extends")
    if not isinstance(extends, str) or not extends:
        return None
    path = Path(extends)
    if path.name in ("run.yaml", "resolved.yaml"):
        return path.parent.name or None
    return path.stem if path.suffix in (".yaml", ".yml") else path.name
