"""Every field of the run file with its type, default and meaning, read off the tree."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tunebook.recipe.tree import Recipe


@dataclass(frozen=True)
class FieldRow:
    """One field: `data[].path` is the path of every source."""

    key: str
    type: str
    default: str
    meaning: str


def list_fields() -> tuple[FieldRow, ...]:
    """List every field in the order of the tree, sections before what they hold."""
    return tuple(_walk(Recipe, "", Recipe.model_fields))


def fields_markdown() -> str:
    """Write the reference page of the run file, `docs/fields.md`."""
    lines = [
        "# Every field of a run file",
        "",
        "<!-- Made by tools/make_docs.py from src/tunebook/recipe/tree.py: edit that one. -->",
        "",
        "`data[].path` is the path of every source; `~` means that nothing is set.",
        "",
        "| key | value | default | meaning |",
        "|---|---|---|---|",
    ]
    for row in list_fields():
        cells = (f"`{row.key}`", row.type, row.default and f"`{row.default}`", row.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Find the section a field holds, directly or as the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is list:
        return section_of(get_args(annotation)[0])
    return None


def all_keys() -> tuple[str, ...]:
    """List the dotted keys of all fields as an override writes them, `data.0.path`."""
    return tuple(row.key.replace("[]", ".0") for row in list_fields())


def describe_type(annotation: Any) -> str:
    """Say in words which values a field takes, such as `a whole number or auto`."""
    kinds = list(dict.fromkeys(_kinds(annotation)))
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def _kinds(annotation: Any) -> Iterator[str]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for arg in args:
            if arg is not type(None):
                yield from _kinds(arg)
    elif origin is Literal:
        yield from (str(arg) for arg in args)
    elif origin is typing.Annotated:
        percent = any(isinstance(x, FieldInfo) and "%" in str(x.metadata) for x in args[1:])
        yield from ["a percentage such as 5%"] if percent else _kinds(args[0])
    elif origin is list:
        item = describe_type(args[0])
        yield "a list of sources" if section_of(args[0]) else f"a list ({item})"
    elif origin is tuple:
        yield f"a list of {len(args)} numbers"
    elif origin is dict or annotation is dict:
        yield "a mapping"
    elif section_of(annotation) is not None:
        yield "a section of keys"
    else:
        yield _PLAIN[annotation]


_PLAIN: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
}


def _walk(model: type[BaseModel], prefix: str, fields: dict[str, FieldInfo]) -> Iterator[FieldRow]:
    for name, field in fields.items():
        section = section_of(field.annotation)
        key = prefix + name
        yield FieldRow(key, _bounded(field), _default(field, section), field.description or "")
        if section is not None:
            below = f"{key}[]." if get_origin(field.annotation) is list else f"{key}."
            yield from _walk(section, below, section.model_fields)


def _bounded(field: FieldInfo) -> str:
    words = [describe_type(field.annotation)]
    for bound in field.metadata:
        for name, text in (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "up to")):
            limit = getattr(bound, name, None)
            if limit is not None:
                words.append(f"{text} {limit}")
    return ", ".join(words)


def _default(field: FieldInfo, section: type[BaseModel] | None) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "" if section is not None else "(required)"
    if isinstance(default, BaseModel):
        stated = default.model_dump(exclude_unset=True)
        return json.dumps(stated).replace('"', "") if stated else ""
    if default is None:
        return "~"
    # A line break would end the row of the table it is shown in.
    plain = isinstance(default, str) and "\n" not in default
    return str(default) if plain else json.dumps(default)
