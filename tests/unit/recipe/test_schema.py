from __future__ import annotations

import json

from tunebook.recipe.complain import ELSEWHERE
from tunebook.recipe.explain import all_keys, list_fields
from tunebook.recipe.schema import run_file_schema, schema_text
from tunebook.recipe.tree import Recipe


def test_the_schema_names_every_key_with_its_meaning() -> None:
    schema = run_file_schema()
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == set(Recipe.model_fields)
    sections = schema["$defs"]
    assert isinstance(sections, dict)
    for value in properties.values():
        # pydantic leaves a meaning out where it is the section's own.
        assert "description" in {
            **sections.get(value.get("$ref", "").rpartition("/")[2], {}),
            **value,
        }
    assert schema["additionalProperties"] is False


def test_a_child_need_not_repeat_required_keys() -> None:
    assert run_file_schema()["anyOf"] == [
        {"required": ["extends"]},
        {"required": ["name", "model", "data"]},
    ]


def test_the_schema_is_json() -> None:
    assert json.loads(schema_text()) == run_file_schema()


def test_defaults_in_the_table_are_those_of_the_tree() -> None:
    rows = {row.key: row for row in list_fields()}
    assert rows["train.learning_rate"].default == "5e-05"
    assert rows["model"].default == "(required)"
    assert rows["train.micro_batch_size"].type == "a whole number or auto"
    assert rows["evaluate.canary"].type == "a whole number, from 0, up to 16"


def test_every_foreign_key_points_at_one_of_ours() -> None:
    ours = set(all_keys())
    assert set(ELSEWHERE.values()) <= ours
    assert not set(ELSEWHERE) & ours
