from __future__ import annotations

from pathlib import Path

import pytest

from tunebook.errors import BookError, RunFileError
from tunebook.recipe.load import (
    dump_resolved,
    load_run_file,
    read_resolved,
    recipe_from_mapping,
)
from tunebook.recipe.tree import Recipe

BASE = """\
name: base
model: tunebook/tiny
data:
  - path: data/x.json
    weight: 2
train: {epochs: 2, learning_rate: 5e-5, warmup_steps: 10}
notebook: {hypothesis: It learns., predict: [perplexity < 8], tags: [old], links: [a]}
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_and_words_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = BASE.replace("It learns.", "yes").replace("[old]", "[on, no, 2026-11-21]")
    recipe = load_run_file(write(tmp_path / "a.yaml", text)).recipe
    assert recipe.train.learning_rate == 5e-5
    assert recipe.notebook.hypothesis == "yes"
    assert recipe.notebook.tags == ["on", "no", "2026-11-21"]


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load_run_file(path).recipe.name == "base"


def test_the_text_stays_as_written(tmp_path: Path) -> None:
    text = "# my words\n" + BASE
    assert load_run_file(write(tmp_path / "a.yaml", text)).written == text


def test_relative_paths_count_from_the_file_that_states_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "lib" / "base.yaml", BASE)
    (tmp_path / "child" / "my_model").mkdir(parents=True)
    child = write(
        tmp_path / "child" / "run.yaml",
        "extends: ../lib/base.yaml\nname: b\nmodel: my_model\nvalidation: {path: v.json}\n",
    )
    monkeypatch.chdir(tmp_path)
    recipe = load_run_file(child).recipe
    assert recipe.data[0].path == str(tmp_path / "lib" / "data" / "x.json")
    assert recipe.validation.path == str(tmp_path / "child" / "v.json")
    assert recipe.model == str(tmp_path / "child" / "my_model")


@pytest.mark.parametrize("model", ["tunebook/tiny", "run:run_4/best", "org/name@main"])
def test_a_model_that_is_no_folder_is_left_alone(tmp_path: Path, model: str) -> None:
    (tmp_path / "tunebook" / "tiny").mkdir(parents=True)
    text = BASE.replace("tunebook/tiny", model)
    assert load_run_file(write(tmp_path / "a.yaml", text)).recipe.model == model


def test_a_model_written_as_a_path_is_one_even_when_it_is_missing(tmp_path: Path) -> None:
    text = BASE.replace("tunebook/tiny", "./nowhere")
    recipe = load_run_file(write(tmp_path / "a.yaml", text)).recipe
    assert recipe.model == str(tmp_path / "nowhere")


def test_a_child_is_what_changed(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", BASE)
    write(tmp_path / "mid.yaml", "extends: base.yaml\nname: mid\ntrain: {weight_decay: 0.1}\n")
    child = write(
        tmp_path / "run.yaml", "extends: mid.yaml\nname: leaf\ntrain: {learning_rate: 1e-3}\n"
    )
    loaded = load_run_file(child)
    assert loaded.chain == ("mid.yaml", "base.yaml")
    train = loaded.recipe.train
    assert (train.learning_rate, train.weight_decay, train.epochs) == (1e-3, 0.1, 2)
    assert loaded.inherited["train.learning_rate"] == "this file"
    assert loaded.inherited["train.weight_decay"] == "mid.yaml"
    assert loaded.inherited["train.epochs"] == "base.yaml"
    assert loaded.inherited["data.0.weight"] == "base.yaml"
    assert loaded.inherited["data.0.format"] == "default"
    assert loaded.inherited["lora.rank"] == "default"


def test_every_value_of_the_recipe_has_a_source(tmp_path: Path) -> None:
    loaded = load_run_file(write(tmp_path / "a.yaml", BASE), ["seed=3"])
    assert loaded.inherited["seed"] == "command line"
    assert set(loaded.inherited.values()) == {"this file", "command line", "default"}
    assert {"train.betas", "stop_on", "notebook.predict", "validation.fraction"} <= set(
        loaded.inherited
    )


def test_lists_are_replaced_whole(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", BASE)
    text = "extends: base.yaml\nname: b\ndata: [{path: y.json}]\n"
    recipe = load_run_file(write(tmp_path / "b.yaml", text)).recipe
    assert [source.weight for source in recipe.data] == [1.0]


def test_what_an_author_expects_is_not_inherited(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", BASE)
    text = "extends: base.yaml\nname: b\nnotebook: {tags: [new]}\n"
    notebook = load_run_file(write(tmp_path / "b.yaml", text)).recipe.notebook
    assert (notebook.hypothesis, notebook.predict, notebook.links) == (None, [], [])
    assert notebook.tags == ["new"]


def test_a_name_is_not_inherited(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", BASE)
    with pytest.raises(RunFileError, match="`name` is missing"):
        load_run_file(write(tmp_path / "b.yaml", "extends: base.yaml\n"))


@pytest.mark.parametrize(
    ("stated", "key", "gone"),
    [
        ("train: {max_steps: 5}", "train.max_steps", "train.epochs"),
        ("train: {max_tokens: 5}", "train.max_tokens", "train.epochs"),
        ("train: {warmup_fraction: 0.1}", "train.warmup_fraction", "train.warmup_steps"),
        ("validation: {path: v.json}", "validation.path", "validation.fraction"),
    ],
)
def test_one_key_of_a_group_sets_the_parents_others_aside(
    tmp_path: Path, stated: str, key: str, gone: str
) -> None:
    write(tmp_path / "base.yaml", BASE + "validation: {fraction: 0.2}\n")
    loaded = load_run_file(write(tmp_path / "b.yaml", f"extends: base.yaml\nname: b\n{stated}\n"))
    values = loaded.recipe.model_dump()
    section, name = gone.split(".")
    assert values[section][name] is None
    assert loaded.inherited[key] == "this file"


def test_nothing_stated_sets_nothing_aside(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", BASE)
    text = "extends: base.yaml\nname: b\ntrain: {max_steps: ~}\n"
    assert load_run_file(write(tmp_path / "b.yaml", text)).recipe.train.epochs == 2


def test_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml\nname: a\n")
    write(tmp_path / "b.yaml", "extends: a.yaml\nname: b\n")
    with pytest.raises(RunFileError, match=r"in a circle: a\.yaml -> b\.yaml -> a\.yaml"):
        load_run_file(tmp_path / "a.yaml")


def test_a_file_that_extends_itself_is_told_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "name: b\nextends: a.yaml\n")
    with pytest.raises(RunFileError, match=r"a\.yaml:2: `extends: a\.yaml` is this file itself;"):
        load_run_file(path)


def test_a_parent_without_the_ending_of_its_file_is_guessed(tmp_path: Path) -> None:
    def find_run(name: str) -> Path:
        raise BookError(f"no run {name}")

    write(tmp_path / "c2.yaml", BASE)
    for stated in ("c2", "./c2"):
        path = write(tmp_path / "c3.yaml", f"extends: {stated}\nname: c3\n")
        for find in (None, find_run):
            with pytest.raises(RunFileError, match=rf": did you mean {stated}\.yaml\?$"):
                load_run_file(path, find_run=find)


def test_a_missing_parent_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "name: a\nextends: none.yaml\n")
    with pytest.raises(RunFileError, match=r"a\.yaml:2: `extends: none\.yaml`: there is no run"):
        load_run_file(path)


def test_a_parent_run_needs_a_book(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "name: a\nextends: run_1\n")
    with pytest.raises(RunFileError, match="names a run, and there is no book here"):
        load_run_file(path)


def test_an_unknown_parent_run_is_refused_with_the_books_own_words(tmp_path: Path) -> None:
    def find_run(name: str) -> Path:
        raise BookError(f"no run {name}; did you mean `run_1`?")

    path = write(tmp_path / "a.yaml", "name: a\nextends: run_2\n")
    with pytest.raises(RunFileError, match=r"a\.yaml:2: .*did you mean `run_1`\?"):
        load_run_file(path, find_run=find_run)


@pytest.mark.parametrize("stated", ["3", "[a]", "''"])
def test_extends_must_be_a_name(tmp_path: Path, stated: str) -> None:
    path = write(tmp_path / "a.yaml", f"name: a\nextends: {stated}\n")
    with pytest.raises(RunFileError, match="`extends` must name a run file or a run"):
        load_run_file(path)


def test_a_new_run_is_a_parent_by_its_run_file(tmp_path: Path) -> None:
    parent = write(tmp_path / "runs" / "run_1" / "run.yaml", BASE)
    path = write(tmp_path / "b.yaml", "extends: run_1\nname: b\n")
    loaded = load_run_file(path, find_run=lambda name: parent)
    assert loaded.chain == ("run_1",)
    assert loaded.inherited["model"] == "run_1"
    assert loaded.recipe.data[0].path == str(parent.parent / "data" / "x.json")


def test_a_started_run_is_a_parent_by_its_resolved_recipe(tmp_path: Path) -> None:
    first = load_run_file(write(tmp_path / "a.yaml", BASE)).recipe
    parent = write(tmp_path / "runs/base/resolved.yaml", dump_resolved(first, {"torch": "2"}))
    path = write(tmp_path / "b.yaml", "extends: base\nname: b\ntrain: {max_steps: 7}\n")
    loaded = load_run_file(path, find_run=lambda name: parent)
    assert loaded.recipe.data == first.data
    assert (loaded.recipe.train.max_steps, loaded.recipe.train.epochs) == (7, None)
    assert loaded.recipe.notebook.hypothesis is None
    assert loaded.chain == ("base",)


def test_a_mistake_in_a_parent_names_the_parents_line(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", BASE.replace("epochs: 2", "epoch: 2"))
    path = write(tmp_path / "b.yaml", "extends: base.yaml\nname: b\n")
    with pytest.raises(RunFileError, match=r"base\.yaml:6: unknown key `train\.epoch`"):
        load_run_file(path)


def test_stage_decides_the_defaults_that_depend_on_it(tmp_path: Path) -> None:
    recipe = load_run_file(write(tmp_path / "a.yaml", BASE), ["stage=cpt"]).recipe
    assert (recipe.train_on, recipe.overlong, recipe.packing) == ("all", "split", True)


def test_a_mapping_follows_the_rules_of_a_file(tmp_path: Path) -> None:
    values = {"name": "a", "model": "tunebook/tiny", "data": [{"path": Path("x.json")}]}
    loaded = recipe_from_mapping(values, "the mapping", tmp_path, ["seed=4"])
    assert loaded.recipe.data[0].path == str(tmp_path / "x.json")
    assert loaded.recipe.seed == 4
    assert values["data"] == [{"path": Path("x.json")}]
    again = load_run_file(write(tmp_path / "again.yaml", loaded.written), ["seed=4"])
    assert again.recipe == loaded.recipe


def test_a_mistake_in_a_mapping_names_the_mapping(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match=r"^the mapping: unknown key `modle`; did you mean"):
        recipe_from_mapping({"name": "a", "modle": "m"}, "the mapping", tmp_path)
    with pytest.raises(RunFileError, match="it holds a value no run file can hold"):
        recipe_from_mapping({"name": object()}, "the mapping", tmp_path)


def test_a_resolved_recipe_reads_back(tmp_path: Path) -> None:
    recipe = load_run_file(write(tmp_path / "a.yaml", BASE)).recipe
    text = dump_resolved(recipe, {"torch": "2.13", "commit": None, "cores": 2})
    assert read_resolved(text) == (recipe, {"torch": "2.13", "commit": None, "cores": 2})


@pytest.mark.parametrize("text", ["", "a: 1", "recipe: 3\nenvironment: {}", "recipe: {"])
def test_a_resolved_recipe_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RunFileError, match=r"resolved\.yaml"):
        read_resolved(text)


@pytest.mark.parametrize("text", ["\x85", "a\x85b", "a\u2028b", "\u2029", "\r", " lead", "x\n\n"])
def test_unusual_line_ends_come_back_from_a_resolved_file(text: str) -> None:
    values = {"name": "a", "model": "m", "data": [{"path": "p"}], "notebook": {"tags": [text]}}
    recipe = Recipe.model_validate(values)
    assert read_resolved(dump_resolved(recipe, {}))[0] == recipe


def test_a_started_run_is_extended_by_path_as_by_name(tmp_path: Path) -> None:
    values = {"name": "p", "model": "m", "data": [{"path": "/elsewhere/x.json"}]}
    parent = Recipe.model_validate(values | {"train": {"learning_rate": 1e-3}})
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "run.yaml").write_text("name: p\nmodel: m\ndata: [{path: x.json}]\n")
    (folder / "resolved.yaml").write_text(dump_resolved(parent, {}))
    child = tmp_path / "c.yaml"
    child.write_text("extends: ./p\nname: c\n")
    recipe = load_run_file(child).recipe
    assert recipe.train.learning_rate == 1e-3
    assert recipe.data[0].path == "/elsewhere/x.json"
