"""A run file on top of another: what a child states replaces what its parent stated."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunebook.recipe.home import expand_home
from tunebook.recipe.hub_path import HUB_PREFIX, may_be_hub_data
from tunebook.recipe.tree import EXCLUSIVE_KEYS

NEVER_INHERITED = ("name", "extends", "notebook")
"""What belongs to one run alone: its name and what its author expects of it."""


@dataclass
class Layer:
    """Values with, for every dotted key, where it stands (`where`) and who stated it (`source`)."""

    values: dict[str, Any]
    where: dict[str, str] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)


def extend(parent: Layer, child: Layer) -> Layer:
    """Lay a child over its parent: mappings key by key, everything else whole."""
    merged = Layer(copy.deepcopy(parent.values), dict(parent.where), dict(parent.source))
    for key in NEVER_INHERITED:
        merged.values.pop(key, None)
        forget(merged, key)
    set_aside(merged, child.values)
    _merge(merged, merged.values, child.values, "")
    merged.where |= child.where
    merged.source |= child.source
    return merged


def set_aside(parent: Layer, child: Mapping[str, Any]) -> None:
    """Take from a parent the keys that the child replaces by another of the same group."""
    for section, keys in EXCLUSIVE_KEYS:
        below, above = child.get(section), parent.values.get(section)
        if not isinstance(below, Mapping) or not isinstance(above, dict):
            continue
        if any(below.get(key) is not None for key in keys):
            for key in keys:
                above.pop(key, None)
                forget(parent, f"{section}.{key}")


def forget(layer: Layer, key: str) -> None:
    """Drop what is known about a key and everything below it."""
    for known in (layer.where, layer.source):
        for name in [n for n in known if n == key or n.startswith(f"{key}.")]:
            del known[name]


def _merge(merged: Layer, into: dict[str, Any], values: Mapping[str, Any], prefix: str) -> None:
    for key, value in values.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            _merge(merged, old, value, f"{prefix}{key}.")
        else:
            forget(merged, prefix + key)
            into[key] = copy.deepcopy(value)


def leaf_keys(values: Any, prefix: str = "") -> list[str]:
    """List the dotted keys of all values that are not mappings or lists of mappings."""
    if isinstance(values, Mapping) and values:
        items: list[tuple[str, Any]] = [(str(k), v) for k, v in values.items()]
    elif isinstance(values, list) and any(isinstance(v, Mapping) for v in values):
        items = [(str(i), v) for i, v in enumerate(values)]
    else:
        return [prefix] if prefix else []
    return [leaf for k, v in items for leaf in leaf_keys(v, f"{prefix}.{k}" if prefix else k)]


def resolve_paths(values: dict[str, Any], base_dir: Path) -> None:
    """Make the relative paths of one file absolute, from the folder that file is in."""
    model = values.get("model")
    if isinstance(model, str) and _is_relative_folder(model, base_dir):
        values["model"] = _absolute(model, base_dir)
    validation = values.get("validation")
    sources = values.get("data")
    for holder in [validation, *(sources if isinstance(sources, list) else [])]:
        if isinstance(holder, dict) and isinstance(holder.get("path"), str) and holder["path"]:
            holder["path"] = _data_path(holder["path"], base_dir)
        for settings in _filter_settings(holder):
            if isinstance(settings.get("scores"), str) and settings["scores"]:
                settings["scores"] = _absolute(settings["scores"], base_dir)


def _filter_settings(source: object) -> list[dict[str, Any]]:
    filters = source.get("filters") if isinstance(source, dict) else None
    named = [f for f in filters if isinstance(f, dict)] if isinstance(filters, list) else []
    return [settings for f in named for settings in f.values() if isinstance(settings, dict)]


def _data_path(path: str, base_dir: Path) -> str:
    if path.startswith(HUB_PREFIX):
        return path
    is_id = may_be_hub_data(path) and not (base_dir / path).exists()
    return path if is_id else _absolute(path, base_dir)


def _absolute(path: str, base_dir: Path) -> str:
    return os.path.normpath(base_dir.absolute() / expand_home(path))


def _is_relative_folder(model: str, base_dir: Path) -> bool:
    if model.startswith(("run:", "tunebook/")):
        return False
    if model.startswith(("./", "../", "~/")) or model in (".", ".."):
        return True
    try:
        return (base_dir / model).is_dir()
    except (OSError, ValueError):
        return False
