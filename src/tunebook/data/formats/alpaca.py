"""Instructions with their input and output: Alpaca, GPTeacher and nested seed tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.data.formats.broken import lacking_key, not_text
from tunebook.data.formats.shape import DOCUMENT, Shape, Turns, text_of
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Message

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow


def build(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example of an instruction, perhaps an input, and an output."""
    instruction = text_of(row, "alpaca", "instruction", mapping)
    output = text_of(row, "alpaca", "output", mapping)
    column = mapping.get("input", "input")
    material = row.values.get(column)
    if material is not None and not isinstance(material, str):
        raise not_text(row, column, material)
    return [_turns(instruction, material, output)]


def build_nested(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example per instance of a seed task."""
    instruction = text_of(row, "alpaca", "instruction", mapping)
    column = mapping.get("instances", "instances")
    if column not in row.values:
        raise lacking_key(row, "alpaca", mapping, "instances")
    instances = row.values[column]
    if not isinstance(instances, list) or not instances:
        raise DataError(
            f"{row.place}: {column} holds no list of instances with input and output; put one in, "
            "or leave the row out"
        )
    return [
        _instance(row, f"{column}, instance {place}", instruction, one)
        for place, one in enumerate(instances, start=1)
    ]


def _instance(row: RawRow, where: str, instruction: str, one: object) -> Turns:
    if not isinstance(one, dict) or "output" not in one:
        raise DataError(f"{row.place}: {where} needs output, and may have input")
    material = one.get("input")
    for name, value in (("input", material), ("output", one["output"])):
        if not isinstance(value, str) and not (name == "input" and value is None):
            raise not_text(row, f"{name} of {where}", value)
    return _turns(instruction, material, one["output"])


def _turns(instruction: str, material: str | None, output: str) -> Turns:
    between = (Message("input", material),) if material and material.strip() else ()
    return Turns((Message("user", instruction), *between, Message("assistant", output)))


def _has_instances(values: Mapping[str, object], columns: Mapping[str, str]) -> bool:
    return isinstance(values.get(columns.get("instances", "instances")), list)


_OUTPUT = {"response": "output"}
SHAPES = (
    Shape(
        "alpaca", ("instruction", "output"), build, optional=("input", DOCUMENT), aliases=_OUTPUT
    ),
    Shape(
        "alpaca",
        ("instruction", "output"),
        build,
        optional=("input", DOCUMENT),
        columns={"output": "response"},
        aliases=_OUTPUT,
    ),
    Shape(
        "alpaca",
        ("instruction", "instances"),
        build_nested,
        optional=(DOCUMENT,),
        fits=_has_instances,
        about="one example per instance",
    ),
)
