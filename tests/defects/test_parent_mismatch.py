"""An adapter put on another base than it was trained on (18)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunebook.book.content import weights_hash
from tunebook.book.events import EventWriter, read_events
from tunebook.book.places import RunFolder
from tunebook.errors import ParentMismatch, RunEnded, RunFileError
from tunebook.models.find import EMBEDDED_FOLDER
from tunebook.recipe.load import read_resolved
from tunebook.workflows.changes import refuse_changes
from tunebook.workflows.resume import resume
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A copy of the embedded model in a folder that can be written over."""
    return Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "base"))


@pytest.fixture
def write(
    base: Path, write_data: Callable[..., Path], write_run: Callable[..., Path]
) -> Callable[..., Path]:
    """Give a function that writes a short LoRA run on that base, with changes."""
    rows = [{"instruction": f"Greet friend {n}.", "output": f"Hello, {n}."} for n in range(40)]
    data = write_data("friends.json", rows)
    short = {
        "method": "lora",
        "model": str(base),
        "lora": {"rank": 2},
        "evaluate": {"canary": 0, "prompts": []},
        "train": {"max_steps": 2, "effective_batch_size": 4},
    }
    return lambda name, **changes: write_run(data, name, **{**short, **changes})


def train_here(run_file: Path, stop: int | None = None) -> RunFolder:
    """Train in this process; `stop` is the exit code of a run that is asked to stop at once."""
    run = start_run(run_file.parent, load_recipe(run_file, (), run_file.parent))
    with EventWriter(run, 1) as events, suppress(RunEnded):
        run_to_end(run, events, lambda: stop if run.checkpoints.exists() else None, lambda: None)
    return run


def untrain(base: Path) -> None:
    """Write another model of the same shape over a model."""
    weights = base / "model.safetensors"
    tensors = {k: v + 0.01 * torch.ones_like(v) for k, v in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})


@pytest.mark.defect(18, "parent-mismatch", "training")
def test_an_adapter_goes_on_only_on_the_base_it_was_trained_on(
    base: Path, write: Callable[..., Path]
) -> None:
    first = train_here(write("first"))
    trained_on = weights_hash(base)
    assert read_resolved(first.resolved_yaml.read_text())[1]["base_weights"] == trained_on
    second = write("second", model="run:first")
    healthy = start_run(second.parent, load_recipe(second, (), second.parent))
    assert read_resolved(healthy.resolved_yaml.read_text())[1]["base_weights"] == trained_on

    untrain(base)
    third = write("third", model="run:first")
    with pytest.raises(ParentMismatch, match="parent-mismatch: the adapter of run first") as found:
        start_run(third.parent, load_recipe(third, (), third.parent))
    for content in (trained_on, weights_hash(base)):
        assert content[:12] in str(found.value)
    assert found.value.exit_code == 2
    assert not RunFolder(third.parent, "third").path.exists()


@pytest.mark.defect(18, "parent-mismatch", "resume")
def test_an_adapter_is_resumed_only_on_the_base_it_began_with(
    base: Path, write: Callable[..., Path]
) -> None:
    run = train_here(write("first", train={"max_steps": 4}), stop=143)
    assert read_events(run).last_state == "paused"
    refuse_changes(run, lambda _kind, _payload: None)
    began_with = weights_hash(base)
    untrain(base)
    with pytest.raises(ParentMismatch) as found:
        resume("first", book=run.book)
    now = weights_hash(base)
    assert f"the weights of {base}: {began_with[:12]} -> {now[:12]}" in str(found.value)
    with pytest.raises(ParentMismatch, match="would put its adapter on another base"):
        resume("first", fork="other", book=run.book)


def test_a_parent_that_is_damaged_or_gone_is_refused(write: Callable[..., Path]) -> None:
    first = train_here(write("first"))
    weights = first.final / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for named, said in (
        ("run:first", r"adapter_model\.safetensors is damaged.*say model: run:first/step-2"),
        ("run:first/step-9", "no step-9 weights; give run:NAME of a finished run"),
    ):
        second = write("second", model=named)
        with pytest.raises(RunFileError, match=said):
            start_run(second.parent, load_recipe(second, (), second.parent))
    (first.final / "MANIFEST.json").unlink()
    second = write("second", model="run:first")
    with pytest.raises(RunFileError, match="the folder was never completed"):
        start_run(second.parent, load_recipe(second, (), second.parent))


@pytest.fixture
def adapter_run(base: Path, write: Callable[..., Path]) -> RunFolder:
    """A LoRA run on the base that moved it well beyond rounding."""
    train = {"max_steps": 4, "learning_rate": 3e-2}
    return train_here(write("first", train=train, evaluate={"canary": 4, "prompts": []}))


@pytest.mark.defect(18, "parent-mismatch", "release")
def test_an_adapter_is_released_only_on_the_base_it_was_trained_on(
    base: Path, adapter_run: RunFolder, tunebook: Callable[..., tuple[int, str, str]]
) -> None:
    trained_on = weights_hash(base)
    assert tunebook("release", "first", "healthy", "--merged")[0] == 0
    untrain(base)
    for form in ("--merged", "--adapter"):
        code, _, err = tunebook("release", "first", "broken", form)
        assert code == 2
        assert "parent-mismatch: the adapter of run first" in err
        assert trained_on[:12] in err
        assert weights_hash(base)[:12] in err
        assert not Path("broken").exists()
    # A run that never wrote its base's content down is told by the loss it recorded.
    text = adapter_run.resolved_yaml.read_text()
    adapter_run.resolved_yaml.write_text(text.replace("base_weights", "forgotten"))
    code, _, err = tunebook("release", "first", "broken", "--merged")
    assert code == 1
    assert "are not those that were trained" in err
    assert not Path("broken").exists()


@pytest.mark.defect(18, "parent-mismatch", "release")
def test_an_adapter_is_never_merged_into_the_untrained_parent_of_its_parent(
    base: Path, write: Callable[..., Path], tunebook: Callable[..., tuple[int, str, str]]
) -> None:
    first = train_here(write("first", method="full"))
    second = train_here(write("second", model="run:first"))
    config = second.final / "adapter_config.json"
    healthy = config.read_text()
    config.write_text(healthy.replace(str(first.final), str(base)))
    assert config.read_text() != healthy
    code, _, err = tunebook("release", "second", "broken", "--merged")
    assert code == 1
    assert "adapter_config.json is damaged" in err
    config.write_text(healthy)
    text = second.resolved_yaml.read_text()
    second.resolved_yaml.write_text(text.replace(str(first.final), str(base), 1))
    code, _, err = tunebook("release", "second", "broken", "--merged")
    assert code == 2
    assert "parent-mismatch: the adapter of run second" in err
    assert not Path("broken").exists()


@pytest.mark.defect(18, "parent-mismatch", "release")
def test_merged_weights_that_lost_the_adapter_are_refused_and_nothing_is_left(
    adapter_run: RunFolder,
    tunebook: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tunebook.models.export.merge", lambda network: network.unload())
    code, _, err = tunebook("release", "first", "broken", "--merged")
    assert code == 1
    assert "the exported weights do not say what the trained model says" in err
    assert not list(Path().glob("*broken*"))
    assert not (adapter_run.path / "release.json").exists()
