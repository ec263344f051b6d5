"""What a model's folder leads to outside of itself is not copied, and pipes end in one sentence."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tunebook.cli.main import main
from tunebook.errors import ModelError
from tunebook.models.export import copy_whole
from tunebook.models.find import find_model
from tunebook.models.tokenizer import copy_tokenizer

CANARY = "CANARY-of-the-user"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's, valid as settings, by a name that a model has too."""
    path = tmp_path / "mine" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"model_type": "gpt2", "auths": CANARY}))
    return path


@pytest.fixture
def model(tiny_gpt2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_gpt2, tmp_path / "model"))


def pickle_weights(model: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def leaked(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path.name for path in files if CANARY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "name",
    ["tokenizer.model", "tokenizer.json", "config.json", "generation_config.json", "LICENSE"],
)
def test_convert_copies_nothing_of_the_users_through_a_link(
    model: Path, secret: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pickle_weights(model)
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(secret)
    out = tmp_path / "out"
    assert main(["convert", str(model), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"{model / name} is a link out of its folder" in said
    assert CANARY not in said
    assert not out.exists()


def test_what_copies_for_training_and_release_follows_no_link_out_either(
    model: Path, secret: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.json").symlink_to(secret)
    with pytest.raises(ModelError, match="link out of its folder"):
        copy_tokenizer(model, out)
    (model / "generation_config.json").unlink(missing_ok=True)
    (model / "generation_config.json").symlink_to(secret)
    with pytest.raises(ModelError, match="link out of its folder"):
        copy_whole(model, out, shutil.copyfile)
    assert not leaked(out)


def test_weights_behind_a_link_are_loaded_from_wherever_they_lie(
    model: Path, tmp_path: Path
) -> None:
    (model / "model.safetensors").rename(tmp_path / "elsewhere")
    (model / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    assert find_model(str(model)) == model


def test_a_snapshot_of_the_hubs_cache_is_its_blobs_and_those_of_no_other(
    model: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    for repository in ("models--a--b", "models--a--private"):
        (tmp_path / "hub" / repository / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(model.iterdir())):
        blob = tmp_path / "hub" / "models--a--b" / "blobs" / f"{number:040}"
        path.rename(blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    assert find_model(str(snapshot)) == snapshot
    other = tmp_path / "hub" / "models--a--private" / "blobs" / ("d" * 40)
    other.write_text(CANARY)
    (snapshot / "LICENSE").symlink_to(other)
    with pytest.raises(ModelError, match="link out of its folder"):
        find_model(str(snapshot))


def test_an_adapter_beside_a_model_is_refused_before_it_could_change_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "x", "r": 1}
    (model / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(ModelError, match=r"adapter_config\.json beside config\.json"):
        find_model(str(model))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "README.md", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_in_a_model_ends_a_conversion_in_a_sentence(
    model: Path, tmp_path: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pickle_weights(model)
    if name == "model.pt":
        (model / "pytorch_model.bin").unlink()
    (model / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(model / name)
    else:
        (model / name).symlink_to("/dev/zero")
    assert main(["convert", str(model), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert str(model / name) in said
    assert "a pipe or a device" in said or "a link out of its folder" in said
    assert not (tmp_path / "out").exists()
