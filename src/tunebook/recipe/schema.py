"""The JSON Schema of the run file, from which editors complete and check it."""

from __future__ import annotations

import json

from tunebook.recipe.tree import Recipe

SCHEMA_NAME = "run.schema.json"


def run_file_schema() -> dict[str, object]:
    """Give the schema of a run file; a file that extends another need not repeat required keys."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "tunebook run file"
    schema["anyOf"] = [{"required": ["extends"]}, {"required": schema.pop("required")}]
    return dict(schema)


def schema_text() -> str:
    """Write the schema as indented JSON."""
    return json.dumps(run_file_schema(), indent=2, ensure_ascii=False) + "\n"
