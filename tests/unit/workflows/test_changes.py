"""What a resume finds changed: every setting, a library, the weights; and nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tunebook.book.checkpoints import writing_checkpoint
from tunebook.book.lineage import build_lineage
from tunebook.book.places import RunFolder, create_book, list_runs
from tunebook.book.summary import summarize
from tunebook.errors import BookError, ParentMismatch, RunFileError, UsageError
from tunebook.recipe.load import dump_resolved, read_resolved
from tunebook.workflows import changes as module
from tunebook.workflows import fork as fork_module
from tunebook.workflows.changes import (
    changed_settings,
    changed_versions,
    edited_settings,
    find_changes,
    refuse_changes,
    run_file_now,
    words,
)
from tunebook.workflows.fork import fork_run
from tunebook.workflows.resume import resume
from tunebook.workflows.train import library_versions, load_recipe, start_run

# key, what the author wrote, what he writes later, whether a fork may have it
SETTINGS = [
    ("model", "tunebook/tiny", "openai-community/gpt2", False),
    ("stage", "sft", "cpt", False),
    ("method", "full", "lora", False),
    ("seed", 0, 1, True),
    ("precision", "fp32", "bf16", False),
    ("attention", "auto", "eager", True),
    ("data.0.weight", 1.0, 2.0, True),
    ("data.0.filters", [], ["exact_duplicate"], True),
    ("data.0.sample", None, 10, True),
    ("template", "auto", "qa", True),
    ("max_seq_len", 128, 64, True),
    ("packing", False, True, True),
    ("validation.fraction", 0.1, 0.2, True),
    ("lora.rank", 16, 8, False),
    ("lora.alpha", 16.0, 32.0, False),
    ("train.epochs", 2.0, 3.0, True),
    ("train.effective_batch_size", 4, 8, False),
    ("train.micro_batch_size", 2, 4, True),
    ("train.optimizer", "adamw", "sgd", False),
    ("train.learning_rate", 1e-4, 2e-4, True),
    ("train.schedule", "cosine", "constant", True),
    ("train.warmup_fraction", 0.1, 0.3, True),
    ("train.weight_decay", 0.0, 0.1, True),
    ("train.max_grad_norm", 1.0, 0.0, True),
    ("evaluate.every", "10%", "epoch", True),
    ("checkpoint.keep", 3, 5, True),
    ("stop_on", ["non_finite"], [], True),
]


def put(values: dict[str, Any], key: str, value: object) -> None:
    *above, last = key.split(".")
    holder: Any = values
    for part in above:
        holder = holder[int(part)] if part.isdigit() else holder[part]
    holder[last] = value


@pytest.fixture
def file(book: Path) -> Path:
    return write_file(book)


def write_file(book: Path) -> Path:
    """Write a run file in which all of these settings are written out."""
    (book / "rows.json").write_text('[{"instruction": "a", "output": "b"}]')
    values: dict[str, Any] = {
        "name": "r",
        "data": [{"path": "rows.json"}],
        "validation": {},
        "lora": {},
        "train": {},
        "evaluate": {},
        "checkpoint": {},
    }
    for key, then, _, _ in SETTINGS:
        put(values, key, then)
    return rewrite(book / "r.yaml", values)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    """A run file and the run that was started from it; tests put the file back."""
    book = create_book(tmp_path_factory.mktemp("begun") / "book")
    file = write_file(book)
    return file, begin(book, file)


def rewrite(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(json.dumps(values))
    return path


def edit(path: Path, key: str, value: object) -> None:
    values = json.loads(path.read_text())
    put(values, key, value)
    rewrite(path, values)


def begin(book: Path, file: Path | dict[str, Any], *overrides: str) -> RunFolder:
    """Start a run and give it a checkpoint as its trainer would, without training."""
    run = start_run(book, load_recipe(file, overrides, book))
    recipe, _ = read_resolved(run.resolved_yaml.read_text())
    with writing_checkpoint(run, 3) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
        state = {
            "step": 3,
            "total_steps": 6,
            "recipe": recipe.model_dump(mode="json"),
            "best_step": 2,
        }
        (folder / "state.json").write_text(json.dumps(state | {"micro_batch_size": 2}))
    return run


def quiet(_kind: str, _payload: object) -> None:
    pass


def depend_on_stage(file: Path) -> None:
    edit(file, "overlong", "drop")
    edit(file, "train_on", "response")


@pytest.mark.parametrize(("key", "then", "now"), [setting[:3] for setting in SETTINGS])
def test_each_changed_setting_is_listed(
    begun: tuple[Path, RunFolder], key: str, then: object, now: object
) -> None:
    file, run = begun
    whole = file.read_text()
    edit(file, key, now)
    if key == "stage":  # what depends on the stage is written out too
        depend_on_stage(file)
    resolved, environment = read_resolved(run.resolved_yaml.read_text())
    try:
        found = edited_settings(resolved, environment, run_file_now(run, resolved, environment))
    finally:
        file.write_text(whole)
    assert found == {key: [then, now]}


def test_an_unchanged_run_file_is_no_change(begun: tuple[Path, RunFolder]) -> None:
    assert find_changes(begun[1]) == {}


def test_changed_settings_are_refused_and_a_fork_takes_them(book: Path, file: Path) -> None:
    run = begin(book, file)
    changed = {key: [then, now] for key, then, now, forks in SETTINGS if forks}
    for key, (_, now) in changed.items():
        edit(file, key, now)
    assert find_changes(run) == changed
    with pytest.raises(BookError) as refused:
        refuse_changes(run, quiet)
    for key, (then, now) in changed.items():
        assert f"{key}: {'none' if then is None else then} -> {now};" in str(refused.value)
    assert "`tunebook resume r --fork NEW`" in str(refused.value)
    assert refused.value.exit_code == 2
    child, told = fork_run(run, "child", ())
    assert told == changed
    recipe, environment = read_resolved(child.resolved_yaml.read_text())
    resolved, _ = read_resolved(run.resolved_yaml.read_text())
    assert changed_settings(resolved, recipe) == changed
    resumed: Any = environment["resumed_from"]
    assert (resumed["run"], resumed["step"], resumed["changed"]) == ("r", 3, changed)
    state = json.loads((child.checkpoints / "step-3" / "state.json").read_text())
    assert state["recipe"] == recipe.model_dump(mode="json")
    assert state["best_step"] is None
    assert state["micro_batch_size"] is None
    assert find_changes(child) == {}


def test_a_fork_names_what_its_checkpoint_was_not_made_for(book: Path, file: Path) -> None:
    run = begin(book, file)
    unfit = [(key, then, now) for key, then, now, forks in SETTINGS if not forks]
    for key, _, now in unfit:
        edit(file, key, now)
    depend_on_stage(file)
    with pytest.raises(BookError, match="a fork of r cannot have ") as refused:
        fork_run(run, "child", ())
    for key, then, now in unfit:
        assert f"{key}: {then} -> {now}" in str(refused.value)
    assert not RunFolder(book, "child").path.exists()


@pytest.mark.parametrize("more", [{}, {"extends": "base.yaml"}])
def test_a_run_started_from_a_mapping_is_unchanged_wherever_it_is_read_again(
    book: Path, file: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    monkeypatch.chdir(book)
    values = json.loads(file.read_text()) | more
    (book / "base.yaml").write_text("overlong: drop\n")
    run = begin(book, values)
    monkeypatch.chdir(book.parent)
    assert find_changes(run) == {}
    child, _ = fork_run(run, "child", ())
    recipe, _ = read_resolved(child.resolved_yaml.read_text())
    assert recipe.data[0].path == str(book / "rows.json")
    edited = run.run_yaml.read_text().replace("seed: 0", "seed: 4")
    run.run_yaml.write_text(edited)
    assert find_changes(run) == {"seed": [0, 4]}


def test_a_fork_that_died_while_it_was_made_is_made_again_and_never_begun_anew(
    book: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(book, file)
    with monkeypatch.context() as patch:

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(fork_module, "_take_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            fork_run(run, "child", ())
    with pytest.raises(BookError, match=r"goes on from step 3 of run r, .*resume r --fork child`"):
        start_run(book, load_recipe("child", (), book))
    child, _ = fork_run(run, "child", ["seed=7"])
    assert [path.name for path in child.checkpoints.iterdir()] == ["step-3"]
    resolved, environment = read_resolved(child.resolved_yaml.read_text())
    assert resolved.seed == 7
    assert "resumed_from" in environment
    with pytest.raises(BookError, match="the name r is taken"):
        fork_run(run, "r", ())


def test_a_fork_with_no_step_left_is_refused(book: Path, file: Path) -> None:
    run = begin(book, file)
    for most in (2, 3):
        with pytest.raises(BookError, match=rf"from step 3, and train\.max_steps is {most}, so no"):
            fork_run(run, "child", [f"train.max_steps={most}"])
    assert not RunFolder(book, "child").path.exists()
    fork_run(run, "child", ["train.max_steps=4"])


def test_lineage_knows_a_fork_from_a_run_that_begins_with_a_checkpoint(
    book: Path, file: Path
) -> None:
    edit(file, "notebook", {"hypothesis": "So:\nresumed_from:\n  run: r"})
    run = begin(book, file)
    fork_run(run, "child", ())
    values = {**json.loads(file.read_text()), "name": "other", "model": "run:r/step-3"}
    start_run(book, load_recipe(values, (), book))
    lineage = build_lineage(book, [summarize(each) for each in list_runs(book)])
    kinds = {(e.child, e.kind) for e in lineage.edges if e.parent == "r"}
    assert kinds == {("child", "resume"), ("child", "config"), ("other", "weights")}


def test_a_resolved_file_altered_by_hand_is_held_against_the_checkpoint(
    book: Path, file: Path
) -> None:
    run = begin(book, file)
    recipe, environment = read_resolved(run.resolved_yaml.read_text())
    run.resolved_yaml.write_text(dump_resolved(recipe.model_copy(update={"seed": 9}), environment))
    edit(file, "seed", 9)
    assert find_changes(run) == {"seed": [0, 9]}


def test_a_release_with_new_keys_goes_on_with_older_runs(book: Path, file: Path) -> None:
    run = begin(book, file)
    yaml = YAML(typ="safe", pure=True)
    resolved = yaml.load(run.resolved_yaml.read_text())
    state_json = run.checkpoints / "step-3" / "state.json"
    state = json.loads(state_json.read_text())
    for recipe in (resolved["recipe"], state["recipe"]):
        del recipe["accept"]
        del recipe["train"]["momentum"]
        del recipe["data"][0]["separator"]
    run.resolved_yaml.write_text(json.dumps(resolved))
    assert find_changes(run) == {}
    shutil.rmtree(run.checkpoints)
    with writing_checkpoint(run, 3) as folder:
        (folder / "state.json").write_text(json.dumps(state))
    assert find_changes(run) == {}


def test_a_damaged_checkpoint_says_nothing_of_what_changed(book: Path, file: Path) -> None:
    run = begin(book, file)
    state_json = run.checkpoints / "step-3" / "state.json"
    flipped = state_json.read_text().replace('"seed": 0', '"seed": 1')
    state_json.write_text(flipped)
    assert '"seed": 1' in flipped
    assert find_changes(run) == {}


def test_what_says_nothing_of_the_run_is_no_change(book: Path, file: Path) -> None:
    run = begin(book, file, "train.learning_rate=3e-4", "data.0.weight=0.5")
    edit(file, "notebook", {"hypothesis": "Said later."})
    edit(file, "accept", ["padding-waste"])
    assert find_changes(run) == {}
    values = json.loads(file.read_text())
    rewrite(file, {**values, "name": "the_next", "seed": 5})  # now it is the next run's file
    assert find_changes(run) == {}
    file.unlink()
    assert find_changes(run) == {}


def test_another_number_of_devices_is_taken_over_and_said(book: Path, file: Path) -> None:
    run = begin(book, file)
    said: list[str] = []
    refuse_changes(run, lambda _kind, payload: said.append(payload["text"]), ["devices=2"])
    assert said == ["taken over: devices: 1 -> 2"]
    assert read_resolved(run.resolved_yaml.read_text())[0].devices == 2
    refuse_changes(run, lambda _kind, payload: said.append(payload["text"]))
    assert len(said) == 1  # that the checkpoint is one of a single device is no news
    with pytest.raises(UsageError, match=r"seed=3 would change run r; .*--fork NEW seed=3"):
        resume("r", ["seed=3"], book=book)


def test_a_method_of_one_device_is_not_taken_over_to_several(book: Path, file: Path) -> None:
    edit(file, "method", "relora")
    run = begin(book, file)
    before = run.resolved_yaml.read_text()
    with pytest.raises(RunFileError, match="`devices: 2`: method relora trains on one device"):
        refuse_changes(run, quiet, ["devices=2"])
    assert run.resolved_yaml.read_text() == before


def test_libraries_are_compared_as_far_as_they_decide_the_result(book: Path, file: Path) -> None:
    recipe = load_recipe(file, (), book).recipe
    now = {"torch": "2.13.1+cpu", "peft": "0.21.0", "numpy": "2.4.6", "tunebook": "0.1.3"}
    now |= {"python": "3.12.1", "safetensors": "0.9"}
    then = {"torch": "2.13.0+cpu", "peft": "0.20.0", "numpy": "2.4.1", "tunebook": "0.1.0"}
    then |= {"python": "3.11.7", "safetensors": "0.8"}
    torch = {"torch": ["2.13.0+cpu", "2.13.1+cpu"]}
    assert changed_versions(then, now, recipe) == torch
    lora = recipe.model_copy(update={"method": "lora"})
    assert changed_versions(then, now, lora) == {**torch, "peft": ["0.20.0", "0.21.0"]}
    assert changed_versions({**then, "tunebook": "0.2.0"}, now, recipe).keys() == {
        "torch",
        "tunebook",
    }
    assert changed_versions({}, now, recipe) == {}
    assert words(changed_versions(then, {**then, "torch": None}, recipe)) == [
        "torch: 2.13.0+cpu -> none"
    ]


def test_bitsandbytes_is_recorded_where_the_optimizer_is_its_own(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(file, (), file.parent).recipe
    monkeypatch.setattr("importlib.metadata.version", release_of_torch_alone)
    eight = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"optimizer": "adamw_8bit"})}
    )
    assert "bitsandbytes" not in library_versions(recipe)
    assert library_versions(eight)["bitsandbytes"] is None
    assert library_versions(eight)["torch"] == "2.0"


def release_of_torch_alone(name: str) -> str:
    if name != "torch":
        raise importlib.metadata.PackageNotFoundError(name)
    return "2.0"


def test_another_release_of_torch_is_refused_with_everything_else(
    book: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(book, file)
    (book / "rows.json").write_text('[{"instruction": "a", "output": "c"}]')
    account = {"path": str(book / "rows.json"), "content_hash": "0" * 64}
    run.data_json.write_text(json.dumps({"sources": [account]}))
    other = {**library_versions(load_recipe(file, (), book).recipe), "torch": "9.9"}
    monkeypatch.setattr(module, "library_versions", lambda _recipe: other)
    with pytest.raises(BookError, match=r"torch: .* -> 9\.9; .*rows\.json: 000000000000 -> "):
        refuse_changes(run, quiet)


def test_weights_are_known_by_content_and_an_adapter_never_changes_its_base(
    book: Path, file: Path
) -> None:
    edit(file, "method", "lora")
    run = begin(book, file)
    recipe, environment = read_resolved(run.resolved_yaml.read_text())
    environment["base_weights"] = "f" * 64
    run.resolved_yaml.write_text(dump_resolved(recipe, environment))
    with pytest.raises(ParentMismatch, match="parent-mismatch: the weights of tunebook/tiny: ffff"):
        refuse_changes(run, quiet)
    with pytest.raises(ParentMismatch, match="would put its adapter on another base"):
        fork_run(run, "child", ())
