"""`key=value` on the command line: a dotted key, and a value in YAML."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunebook.errors import RunFileError
from tunebook.recipe.extend import Layer, forget, resolve_paths, set_aside
from tunebook.recipe.yaml_text import parse_yaml
from tunebook.units import shorten

COMMAND_LINE = "command line"


def apply_overrides(layer: Layer, overrides: Sequence[str], base_dir: Path) -> Layer:
    """Set each `key=value`; relative paths in the values are taken from `base_dir`."""
    layer = Layer(copy.deepcopy(layer.values), dict(layer.where), dict(layer.source))
    parsed = [_parse(text) for text in overrides]
    stated: dict[str, Any] = {}
    for parts, value in parsed:
        if len(parts) == 2 and isinstance(stated.setdefault(parts[0], {}), dict):
            stated[parts[0]][parts[1]] = value
        elif len(parts) == 1 and isinstance(value, dict):
            stated[parts[0]] = {**stated.get(parts[0], {}), **value}
    set_aside(layer, stated)
    for parts, value in parsed:
        _set(layer, parts, _with_absolute_path(parts, value, base_dir))
    return layer


def _parse(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    parts = key.split(".")
    if not equals or not all(parts):
        raise RunFileError(
            f"{COMMAND_LINE}: {shorten(text)!r} is not key=value; "
            "write it like train.learning_rate=1e-4"
        )
    if parts[0] == "extends":
        raise RunFileError(f"{COMMAND_LINE}: `extends` can only be set in the run file")
    return parts, parse_yaml(value, f"{COMMAND_LINE}, {key}").values


def _with_absolute_path(parts: list[str], value: Any, base_dir: Path) -> Any:
    """Resolve a path that an override states, whichever way it states it."""
    nested: Any = value
    for part in reversed(parts):
        nested = [nested] if part.isdigit() else {part: nested}
    if isinstance(nested, dict):
        resolve_paths(nested, base_dir)
    for part in parts:
        nested = nested[0] if part.isdigit() else nested[part]
    return nested


def _set(layer: Layer, parts: list[str], value: Any) -> None:
    holder: Any = layer.values
    for depth, part in enumerate(parts):
        path = ".".join(parts[:depth])
        last = depth == len(parts) - 1
        empty: Any = [] if not last and parts[depth + 1].isdigit() else {}
        if isinstance(holder, list):
            if not part.isdigit() or int(part) > len(holder):
                raise RunFileError(
                    f"{COMMAND_LINE}: `{path}` has {len(holder)} entries, numbered from 0, so "
                    f"`{'.'.join(parts)}` is none of them"
                )
            if int(part) == len(holder):
                holder.append(empty)
            slot: Any = int(part)
        elif isinstance(holder, dict):
            slot = part
            if not last and holder.get(slot) is None:
                holder[slot] = empty
        else:
            raise RunFileError(
                f"{COMMAND_LINE}: `{path}` is a single value, so `{'.'.join(parts)}` cannot be set"
            )
        if not last:
            holder = holder[slot]
    key = ".".join(parts)
    old = holder.get(slot) if isinstance(holder, dict) else holder[slot]
    if isinstance(old, dict) and isinstance(value, Mapping):
        old.update(value)
        keys = [f"{key}.{name}" for name in value]
    else:
        holder[slot] = value
        keys = [key]
    for name in keys:
        forget(layer, name)
        layer.where[name] = layer.source[name] = COMMAND_LINE
