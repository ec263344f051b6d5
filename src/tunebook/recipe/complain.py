"""What is wrong with a run file, as one sentence: key, value, way out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tunebook.recipe.explain import all_keys, describe_type, section_of
from tunebook.recipe.tree import Recipe
from tunebook.units import shorten

ELSEWHERE: dict[str, str] = {
    "base_model": "model",
    "batch_size": "train.effective_batch_size",
    "dataset": "data",
    "datasets": "data",
    "dropout": "lora.dropout",
    "eval_steps": "evaluate.every",
    "gradient_accumulation_steps": "train.effective_batch_size",
    "lora_alpha": "lora.alpha",
    "lora_r": "lora.rank",
    "lr": "train.learning_rate",
    "lr_scheduler_type": "train.schedule",
    "num_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.micro_batch_size",
    "predictions": "notebook.predict",
    "r": "lora.rank",
    "save_steps": "checkpoint.every",
    "sequence_len": "max_seq_len",
    "warmup_ratio": "train.warmup_fraction",
}
"""What other tools call our keys; used only to suggest the key, never to accept it."""


_EXACT = 2**53
_OF_SOURCE = "data.0."


def complain(error: ValidationError, at: Callable[[str], str]) -> str:
    """Say the first mistake and how many more there are; `at` names the place of a dotted key."""
    mistakes: dict[str, Mapping[str, Any]] = {}
    for found in error.errors(include_url=False):
        key = ".".join(map(str, _real_path(found["loc"])))
        if found["type"] == "missing" and mistakes.get(key, found)["type"] != "missing":
            continue
        mistakes.setdefault(key, found)
    # An unknown key explains a missing one more often than the other way round.
    order = sorted(mistakes, key=lambda key: mistakes[key]["type"] != "extra_forbidden")
    sentence = f"{at(order[0])}: {_sentence(order[0], mistakes[order[0]])}"
    more = len(order) - 1
    return f"{sentence} (and {more} more mistake{'s' if more > 1 else ''})" if more else sentence


def nearest_key(key: str) -> str:
    """Suggest what an unknown dotted key may have meant, or list what its section holds."""
    section, _, name = key.rpartition(".")
    if name.lower() in ELSEWHERE:
        return f"did you mean `{ELSEWHERE[name.lower()]}`?"
    keys = all_keys()
    here = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == _first_item(section)]
    same_word = [k for k in keys if k.rpartition(".")[2] == name]
    if same_word:
        return _suggest(same_word[0], section, misspelled=False)
    near = difflib.get_close_matches(name.lower(), here, n=1)
    if near:
        return f"did you mean `{section + '.' if section else ''}{near[0]}`?"
    words = {k.rpartition(".")[2]: k for k in reversed(keys)}
    near = difflib.get_close_matches(name.lower(), list(words), n=1, cutoff=0.75)
    if near:
        return _suggest(words[near[0]], section)
    return f"{f'`{section}`' if section else 'a run file'} takes {', '.join(here)}"


def _suggest(key: str, section: str, *, misspelled: bool = True) -> str:
    """Suggest a key of the tree: one of a source by the source it is said in, or as one of any."""
    name = key.removeprefix(_OF_SOURCE)
    if name == key:
        return f"did you mean `{key}`?"
    if section.startswith("data."):
        number = section.split(".")[1]
        return f"did you mean `data.{number}.{name}`?"
    if misspelled:
        return f"did you mean `{name}`, a key of each source below `data`?"
    return f"`{name}` is a key of each source below `data`"


def show_value(value: object) -> str:
    """Show a value as the author wrote it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(value).replace("inf", ".inf").replace("nan", ".nan")
    text = repr(value) if isinstance(value, (str, list, dict)) else str(value)
    return shorten(text, 60)


def _first_item(section: str) -> str:
    return ".".join("0" if part.isdigit() else part for part in section.split("."))


def _real_path(loc: Sequence[str | int]) -> list[str | int]:
    """Leave out of pydantic's location what names a branch of a union rather than a key."""
    path: list[str | int] = []
    model: type[BaseModel] | None = Recipe
    for part in loc:
        if isinstance(part, int):
            path.append(part)
        elif model is not None:
            path.append(part)
            field = model.model_fields.get(part)
            if field is None:
                break
            model = section_of(field.annotation)
            if model is None and not _is_mapping_or_list(field):
                break
        elif "[" not in part and part not in ("int", "str", "float", "bool", "constrained-str"):
            path.append(part)
    return path


def _is_mapping_or_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) in (dict, list)


def _field_at(key: str) -> FieldInfo | None:
    model: type[BaseModel] | None = Recipe
    field: FieldInfo | None = None
    for part in key.split("."):
        if part.isdigit():
            continue
        field = model.model_fields.get(part) if model is not None else None
        if field is None:
            return None
        model = section_of(field.annotation)
    return field


def _sentence(key: str, found: Mapping[str, Any]) -> str:
    kind, value, context = found["type"], found["input"], found.get("ctx", {})
    field = _field_at(key)
    if kind == "extra_forbidden":
        return f"unknown key `{shorten(key)}`; {nearest_key(key)}"
    if kind == "missing" and field is not None and field.is_required():
        meaning = (field.description or "").rstrip(".")
        return f"`{key}` is missing; give {describe_type(field.annotation)}: {meaning}"
    if kind == "value_error":
        return _rule(key, str(context["error"]), value)
    bounds = {"greater_than": "above", "greater_than_equal": "at least"}
    bounds |= {"less_than": "below", "less_than_equal": "at most"}
    if kind in bounds:
        limit = next(iter(context.values()))
        plain = int(limit) if float(limit).is_integer() else limit
        return f"`{key}` must be {bounds[kind]} {plain}, not {show_value(value)}"
    if kind == "finite_number":
        return f"`{key}` must be a finite number, not {show_value(value)}"
    if kind == "too_short":
        return f"`{key}` is empty; it needs at least one entry"
    if kind == "string_too_short":
        return f"`{key}` must not be empty"
    return _wrong_type(key, field, value, kind)


def _rule(key: str, rule: str, value: object) -> str:
    if rule.startswith(("must", "each")):
        return f"`{key}` is {show_value(value)}: {rule}"
    return f"`{key}`: {rule}" if key else rule


def _wrong_type(key: str, field: FieldInfo | None, value: object, kind: str) -> str:
    if kind in ("model_type", "model_attributes_type"):
        if value is None:
            return f"`{key}` has nothing below it; indent its keys below it, or leave it out"
        return f"`{key}` must be a section with keys of its own, not {show_value(value)}"
    if field is None:
        return f"`{key}` cannot be {show_value(value)}"
    choices = _choices(field.annotation)
    if kind == "literal_error" and choices:
        near = difflib.get_close_matches(str(value).lower(), choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"`{key}` must be one of {', '.join(choices)}, not {show_value(value)}{hint}"
    last = key.rpartition(".")[2]
    kinds = {"string_type": "text", "dict_type": "a mapping", "list_type": "a list"}
    wanted = kinds.get(kind, "") if last.isdigit() else ""
    return (
        f"`{key}` must be {wanted or describe_type(field.annotation)}, not {show_value(value)}"
        + (_whole_number_hint(value) if kind == "int_type" else "")
    )


def _whole_number_hint(value: object) -> str:
    # Above this, what was written and the whole number that it is taken for differ.
    if isinstance(value, float) and abs(value) < _EXACT and value.is_integer():
        return f"; write {int(value)}"
    return ""


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(arg) for arg in get_args(annotation)]
    if get_origin(annotation) is list:
        return _choices(get_args(annotation)[0])
    options = [arg for arg in get_args(annotation) if arg is not type(None)]
    return _choices(options[0]) if len(options) == 1 else []
