from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tunebook.errors import RunFileError
from tunebook.recipe.load import dump_resolved, load_run_file, read_resolved, recipe_from_mapping
from tunebook.recipe.tree import Recipe

# Every character that UTF-8 can carry; a file with other control characters is not YAML.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
# Resolved paths have their home folders put in: none begins with a tilde.
PATH = TEXT.filter(lambda text: not text.startswith("~"))
POSITIVE = st.floats(min_value=1e-12, max_value=1e6)
COUNT = st.integers(min_value=1, max_value=10**9)
FRACTION = st.floats(min_value=0, max_value=0.99)
EVERY = st.one_of(COUNT, st.just("epoch"), st.integers(1, 100).map(lambda n: f"{n}%"))
SLUGS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    horizon = draw(st.sampled_from(["epochs", "max_steps", "max_tokens"]))
    train: dict[str, Any] = {
        horizon: draw(POSITIVE if horizon == "epochs" else COUNT),
        "learning_rate": draw(POSITIVE),
        "betas": [draw(FRACTION), draw(FRACTION)],
        draw(st.sampled_from(["warmup_steps", "weight_decay"])): draw(st.integers(0, 100)),
        "optimizer": draw(st.sampled_from(["adamw", "sgd"])),
    }
    source = st.fixed_dictionaries(
        {"path": PATH},
        optional={
            "weight": st.floats(1e-6, 1000),
            "columns": st.dictionaries(TEXT, TEXT, max_size=2),
            "filters": st.lists(
                st.one_of(TEXT, st.just({"short": {"min_words": 3, "share": 0.5, "on": True}})),
                max_size=2,
            ),
        },
    )
    values = {
        "name": draw(SLUGS),
        "model": draw(PATH.filter(bool)),
        "stage": draw(st.sampled_from(["sft", "cpt"])),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "data": draw(st.lists(source, min_size=1, max_size=3)),
        "train": train,
        "evaluate": {"every": draw(EVERY), "prompts": draw(st.none() | st.lists(TEXT, max_size=2))},
        "notebook": {
            "hypothesis": draw(st.none() | TEXT),
            "tags": draw(st.lists(TEXT, max_size=3)),
        },
    }
    return Recipe.model_validate(values)


@given(recipes(), st.dictionaries(TEXT.filter(bool), st.none() | TEXT | st.integers(), max_size=3))
@settings(deadline=None, max_examples=60)
def test_recipe_to_yaml_to_recipe_is_identity(recipe: Recipe, environment: dict[str, Any]) -> None:
    assert read_resolved(dump_resolved(recipe, environment)) == (recipe, environment)


@given(recipes())
@settings(deadline=None, max_examples=30)
def test_a_resolved_recipe_resolves_to_itself(recipe: Recipe) -> None:
    values = recipe.model_dump(mode="json")
    base = Path("/")
    once = recipe_from_mapping(values, "the mapping", base).recipe
    assert recipe_from_mapping(once.model_dump(mode="json"), "again", base).recipe == once


def sentence_of(load: Callable[[], object]) -> str | None:
    """The sentence that loading ends in, None when it makes a recipe; anything else is a bug."""
    try:
        load()
    except RunFileError as error:
        return str(error)
    return None


@given(st.one_of(st.binary(max_size=200), TEXT.map(str.encode)))
@settings(deadline=None, max_examples=150)
def test_any_bytes_end_in_one_sentence(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_bytes(raw)
        sentence = sentence_of(lambda: load_run_file(path))
    assert sentence is not None
    assert "\n" not in sentence


KEYS = st.sampled_from([*Recipe.model_fields, "epochs", "path", "0", "learning_rate"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
@settings(deadline=None, max_examples=150)
def test_any_values_make_a_recipe_or_one_sentence(values: dict[str, Any]) -> None:
    sentence = sentence_of(lambda: recipe_from_mapping(values, "the mapping", Path("/nowhere")))
    assert sentence is None or sentence.startswith("the mapping")
    assert "\n" not in (sentence or "")


@given(st.lists(st.tuples(KEYS, KEYS, VALUES), max_size=3))
@settings(deadline=None, max_examples=150)
def test_any_overrides_make_a_recipe_or_one_sentence(parts: list[tuple[str, str, Any]]) -> None:
    values = {"name": "a", "model": "m", "data": [{"path": "x"}]}
    overrides = [f"{a}.{b}={value}" for a, b, value in parts]
    sentence = sentence_of(
        lambda: recipe_from_mapping(values, "the mapping", Path("/nowhere"), overrides)
    )
    assert "\n" not in (sentence or "")
