from __future__ import annotations

from pathlib import Path

import pytest

from tunebook.errors import RunFileError
from tunebook.recipe.load import LoadedRecipe, load_run_file

TEXT = """\
name: run_1
model: tunebook/tiny
data:
  - path: x.json
    filters: [short]
train: {epochs: 2, warmup_steps: 10}
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "files" / "run.yaml"
    path.parent.mkdir()
    path.write_text(TEXT, encoding="utf-8")
    return path


def load(path: Path, *overrides: str) -> LoadedRecipe:
    return load_run_file(path, overrides)


def test_a_dotted_key_takes_a_yaml_value(run_file: Path) -> None:
    recipe = load(run_file, "train.learning_rate=1e-4", "notebook.predict=[val_loss < 2.0]").recipe
    assert recipe.train.learning_rate == 1e-4
    assert recipe.notebook.predict == ["val_loss < 2.0"]


def test_a_value_may_hold_an_equals_sign(run_file: Path) -> None:
    assert load(run_file, "notebook.hypothesis=a=b").recipe.notebook.hypothesis == "a=b"


def test_a_source_is_reached_by_its_number(run_file: Path) -> None:
    source = load(run_file, "data.0.weight=3").recipe.data[0]
    assert (source.weight, source.filters) == (3.0, ["short"])


def test_the_next_number_adds_a_source(run_file: Path) -> None:
    assert len(load(run_file, "data.1.path=y.json").recipe.data) == 2


def test_a_path_counts_from_the_working_folder(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load(run_file, "data.0.path=y.json", "model=./m", "validation={path: v.json}").recipe
    assert recipe.data[0].path == str(tmp_path / "y.json")
    assert recipe.model == str(tmp_path / "m")
    assert recipe.validation.path == str(tmp_path / "v.json")


@pytest.mark.parametrize("override", ["train.max_steps=5", "train={max_steps: 5}"])
def test_an_override_sets_the_other_keys_of_its_group_aside(run_file: Path, override: str) -> None:
    train = load(run_file, override).recipe.train
    assert (train.max_steps, train.epochs, train.warmup_steps) == (5, None, 10)


def test_two_overrides_of_one_group_contradict_each_other(run_file: Path) -> None:
    with pytest.raises(RunFileError, match="give exactly one of epochs and max_steps"):
        load(run_file, "train.max_steps=5", "train.epochs=1")


def test_a_section_is_merged_key_by_key(run_file: Path) -> None:
    loaded = load(run_file, "train={schedule: linear}")
    assert (loaded.recipe.train.schedule, loaded.recipe.train.epochs) == ("linear", 2)
    assert loaded.inherited["train.schedule"] == "command line"
    assert loaded.inherited["train.epochs"] == "this file"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.learning_rat=1", "unknown key `train.learning_rat`; did you mean `train.learning_"),
        ("learning_rate=1", "did you mean `train.learning_rate`?"),
        ("data.0.wieght=1", "unknown key `data.0.wieght`; did you mean `data.0.weight`?"),
        ("seed=-1", "`seed` must be at least 0, not -1"),
        ("epochs", "'epochs' is not key=value"),
        ("=3", "'=3' is not key=value"),
        ("train..epochs=3", "is not key=value"),
        ("seed=[1", "this is not valid YAML"),
        ("data.7.path=x", "`data` has 1 entries, numbered from 0"),
        ("data.path=x", "`data` has 1 entries, numbered from 0"),
        ("seed.x=1", "`seed` must be a whole number"),
        ("model.x=1", "`model` is a single value, so `model.x` cannot be set"),
        ("extends=x.yaml", "`extends` can only be set in the run file"),
        ("train=~", "`train` has nothing below it"),
        ("train=3", "`train` must be a section"),
    ],
)
def test_a_mistake_is_one_sentence(run_file: Path, override: str, expected: str) -> None:
    with pytest.raises(RunFileError) as caught:
        load(run_file, override)
    assert str(caught.value).startswith("command line")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
