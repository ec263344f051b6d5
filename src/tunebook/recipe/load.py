"""Run file -> recipe: read, lay over what it extends, override, validate, name every source."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

from tunebook.errors import BookError, RunFileError, TunebookError
from tunebook.recipe.complain import complain, show_value
from tunebook.recipe.extend import Layer, extend, leaf_keys, resolve_paths
from tunebook.recipe.home import expand_home
from tunebook.recipe.overrides import apply_overrides
from tunebook.recipe.tree import Recipe
from tunebook.recipe.yaml_text import YamlText, parse_yaml, read_text
from tunebook.terminal import visible

THIS_FILE = "this file"
DEFAULT = "default"
_RUN_KEYS = frozenset(Recipe.model_fields)
FindRun = Callable[[str], Path]


@dataclass(frozen=True)
class LoadedRecipe:
    """A valid recipe with where it comes from.

    `written` is the text as its author wrote it; of a mapping, with absolute paths. `inherited`
    tells for every dotted key of the recipe the file or run it came from, `this file`, `command
    line` or `default`. `chain` names the parents by `extends`, the nearest first. `path` is the run
    file, None for a mapping.
    """

    recipe: Recipe
    written: str
    inherited: dict[str, str]
    chain: tuple[str, ...]
    path: Path | None = None
    where: Callable[[str], str] = field(default=str, compare=False, repr=False)
    """Names file and line of a dotted key, or what stands in their place."""


def load_run_file(
    path: Path, overrides: Sequence[str] = (), *, find_run: FindRun | None = None
) -> LoadedRecipe:
    """Read a run file with everything it extends; RunFileError says what is wrong with it.

    `find_run` gives the run file of a run that `extends` names. Relative paths count from the
    file that states them, those of `overrides` from the working folder.
    """
    _refuse_unspeakable(path)
    written = read_text(path)
    text = parse_yaml(written, str(path))
    layer = _own_layer(text, THIS_FILE)
    layer, chain = _with_parents(layer, text, path.absolute().parent, (path.resolve(),), find_run)
    return replace(_finish(layer, str(path), written, chain, overrides), path=path.absolute())


def _refuse_unspeakable(path: Path) -> None:
    """Refuse a folder that a run file, which is text, could not name."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        shown = str(path.absolute()).encode("utf-8", "replace").decode()
        raise RunFileError(
            f"{shown} is in a folder whose name is not UTF-8, and no run can name it; rename it"
        ) from None


def recipe_from_mapping(
    values: Mapping[str, Any],
    origin: str,
    base_dir: Path,
    overrides: Sequence[str] = (),
    find_run: FindRun | None = None,
) -> LoadedRecipe:
    """Make a recipe of a mapping as a run file would hold it; `origin` is its name in messages."""
    text = YamlText(_plain(values, origin), {}, origin)
    own = _own_layer(text, THIS_FILE)
    layer, chain = _with_parents(own, text, base_dir.absolute(), (), find_run)
    # What is written is kept in the run's folder, where relative paths would lead elsewhere.
    values = dict(own.values)
    if chain and (parent := base_dir.absolute() / expand_home(chain[0])).exists():
        values["extends"] = str(parent)
    return _finish(layer, origin, write_values(values), chain, overrides)


def dump_resolved(recipe: Recipe, environment: Mapping[str, object]) -> str:
    """Write every value of a recipe, defaults included, with the environment, as YAML."""
    return write_values(
        {"recipe": recipe.model_dump(mode="json"), "environment": dict(environment)}
    )


def read_resolved(text: str) -> tuple[Recipe, dict[str, object]]:
    """Read back what `dump_resolved` wrote; RunFileError when it was altered beyond sense."""
    parsed = parse_yaml(text, "resolved.yaml")
    values = parsed.values
    if not _is_resolved(values):
        raise RunFileError("resolved.yaml: it does not hold `recipe` and `environment`")
    environment = dict(values["environment"])
    if isinstance(imported := environment.get("imported"), dict):
        raise BookError(imported_words(str(values["recipe"].get("name")), imported.get("file")))
    return _validate(values["recipe"], lambda key: parsed.at(f"recipe.{key}")), environment


def imported_words(name: str, file: object = None) -> str:
    """Say why a run of somebody else's log is neither trained nor asked."""
    return (
        f"run {name} was imported{f' from {file}' if file else ''}: it is history without weights, "
        f"so it is not trained, resumed or evaluated here; `tunebook new NAME --from {name} "
        "data=...` makes a run with the settings that are known of it"
    )


def recipe_from_values(values: Mapping[str, Any], origin: str) -> Recipe:
    """Make a recipe of stored values, with defaults for keys that are newer than they are."""
    return _validate(values, lambda key: f"{origin}, {key}")


def _own_layer(text: YamlText, source: str) -> Layer:
    if text.values is None:
        raise RunFileError(f"{text.origin}: the run file is empty; it needs name, model and data")
    if not isinstance(text.values, dict):
        raise RunFileError(
            f"{text.origin}: a run file is a mapping of keys such as `model: ...`, "
            f"not {show_value(text.values)}"
        )
    where = {key: text.at(key) for key in text.lines}
    return Layer(text.values, where, dict.fromkeys(leaf_keys(text.values), source))


def _with_parents(
    layer: Layer, text: YamlText, base_dir: Path, seen: tuple[Path, ...], find_run: FindRun | None
) -> tuple[Layer, tuple[str, ...]]:
    """Lay a file over its parents, each with its paths resolved from its own folder."""
    resolve_paths(layer.values, base_dir)
    stated = layer.values.get("extends")
    if stated is None:
        return layer, ()
    if not isinstance(stated, str) or not stated:
        raise RunFileError(
            f"{text.at('extends')}: `extends` must name a run file or a run, "
            f"not {show_value(stated)}"
        )
    path = _find_parent(stated, text.at("extends"), base_dir, find_run)
    if seen and path.resolve() == seen[-1]:
        raise RunFileError(
            f"{text.at('extends')}: `extends: {stated}` is this file itself; name another run file "
            "or a run, or leave it out"
        )
    if path.resolve() in seen:
        names = " -> ".join(p.name for p in (*seen, path.resolve()))
        raise RunFileError(f"{text.at('extends')}: `extends` goes in a circle: {names}")
    parent_text = _read_parent(path, stated, text.at("extends"))
    if _is_resolved(parent_text.values):
        # A started run: its resolved recipe is complete, with its paths absolute.
        recipe = {**parent_text.values["recipe"], "extends": None}
        named = parent_text.values["environment"].get("model_as_written")
        if isinstance(named, str) and named.startswith("run:"):
            # The folder it became says neither whose weights they are nor that it is an adapter.
            recipe["model"] = named
        lines = {k[7:]: n for k, n in parent_text.lines.items() if k.startswith("recipe.")}
        parent_text = YamlText(recipe, lines, str(path))
    parent, chain = _with_parents(
        _own_layer(parent_text, stated),
        parent_text,
        path.absolute().parent,
        (*seen, path.resolve()),
        find_run,
    )
    return extend(parent, layer), (stated, *chain)


def _read_parent(path: Path, stated: str, at: str) -> YamlText:
    """Read a run file that another names; what is none is not repeated, for it may be a secret."""
    written = read_text(path)
    try:
        text = parse_yaml(written, str(path))
    except RunFileError as error:
        place = re.match(r":[0-9]+(:[0-9]+)?", str(error).removeprefix(str(path)))
        where = f"{path}{place[0] if place else ''}"
        raise RunFileError(
            f"{at}: `extends: {stated}`: {where} is not valid YAML; correct that file, or name "
            "another"
        ) from None
    keys = text.values if isinstance(text.values, dict) else {}
    known = _is_resolved(text.values) or any(key in _RUN_KEYS for key in keys)
    if text.values is not None and not known:
        raise RunFileError(
            f"{at}: `extends: {stated}`: {path}:1 is no run file; name one, or a run of the book"
        )
    for key in keys:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,79}", key):
            raise RunFileError(
                f"{at}: `extends: {stated}`: {text.origin}:{text.lines[key]} has a key that no run "
                "file has; correct that file, or name another"
            )
    return text


def _find_parent(stated: str, at: str, base_dir: Path, find_run: FindRun | None) -> Path:
    path = base_dir / expand_home(stated)
    try:
        if path.is_file():
            return path
        # A started run's relative paths were resolved from where its run file stood, not here.
        for name in ("resolved.yaml", "run.yaml"):
            if (path / name).is_file():
                return path / name
    except (OSError, ValueError) as error:
        raise RunFileError(f"{at}: `extends: {stated}` cannot be read: {error}") from None
    if "/" in stated or stated.endswith((".yaml", ".yml")):
        why = f"there is no run file {path}"
    elif find_run is None:
        why = "it names a run, and there is no book here to find it in; give the path of a run file"
    else:
        try:
            return find_run(stated)
        except TunebookError as error:
            why = str(error)
    for beside in (f"{stated}.yaml", f"{stated}.yml"):
        if (base_dir / expand_home(beside)).is_file():
            why = f"did you mean {beside}?"
    raise RunFileError(f"{at}: `extends: {stated}`: {why}")


def _finish(
    layer: Layer, origin: str, written: str, chain: tuple[str, ...], overrides: Sequence[str]
) -> LoadedRecipe:
    layer = apply_overrides(layer, overrides, Path.cwd())

    def at(key: str) -> str:
        below = (place for name, place in layer.where.items() if name.startswith(f"{key}."))
        inside = next(below, origin) if key else origin
        while key and key not in layer.where:
            key = key.rpartition(".")[0]
        return layer.where[key] if key else inside

    recipe = _validate(layer.values, at)
    return LoadedRecipe(recipe, written, _sources(recipe, layer), chain, where=at)


def _validate(values: Mapping[str, Any], at: Callable[[str], str]) -> Recipe:
    # Strict JSON takes lists and mappings as YAML gives them, and converts nothing else: "3" is
    # not 3, and 3.0 is not a whole number.
    try:
        return Recipe.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise RunFileError(complain(error, at)) from None


def _sources(recipe: Recipe, layer: Layer) -> dict[str, str]:
    stated = set(leaf_keys(layer.values))
    sources: dict[str, str] = {}
    for key in leaf_keys(recipe.model_dump(mode="json")):
        above = key
        while above and above not in layer.source:
            above = above.rpartition(".")[0]
        sources[key] = layer.source[above] if above and key in stated else DEFAULT
    return sources


def _is_resolved(values: object) -> bool:
    return bool(
        isinstance(values, dict)
        and set(values) == {"recipe", "environment"}
        and isinstance(values["recipe"], dict)
        and isinstance(values["environment"], dict)
    )


def _plain(values: Mapping[str, Any], origin: str) -> Any:
    """Turn a caller's mapping into plain JSON values, so that it meets the rules of a file."""
    try:
        return json.loads(json.dumps(_spell_paths(values)))
    except (TypeError, ValueError, RecursionError) as error:
        raise RunFileError(f"{origin}: it holds a value no run file can hold: {error}") from None


def _spell_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _spell_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spell_paths(item) for item in value]
    return str(value) if isinstance(value, Path) else value


class _Representer(SafeRepresenter):
    """Writes text with unusual line ends in double quotes: plain, they are read back as others.

    What would command a terminal is quoted too: printed, it becomes an escape, which only there
    means the same.
    """


def _represent_text(representer: _Representer, text: str) -> Any:
    unusual = any(end in text for end in "\x85\u2028\u2029") or visible(text) != text
    style = '"' if unusual else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Representer.add_representer(str, _represent_text)


def write_values(values: Mapping[str, Any]) -> str:
    """Write the values of a run file as YAML, in the order given."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its stub lies
    yaml.allow_unicode = True
    yaml.width = 100
    out = io.StringIO()
    yaml.dump(dict(values), out)
    return out.getvalue()
