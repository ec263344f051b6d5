"""Models known by their config and their files' headers alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from huggingface_hub.errors import NotASafetensorsRepoError
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from tunebook.errors import ModelError
from tunebook.models import find, skeleton
from tunebook.models.find import find_model
from tunebook.models.skeleton import (
    add_lora_to_skeleton,
    build_skeleton,
    check_weights,
    load_config,
)
from tunebook.recipe.tree import Lora


def folder_with(tmp_path: Path, config: object) -> str:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path)


def weights_of(folder: Path | str) -> Any:
    return check_weights(str(folder), build_skeleton(load_config(str(folder))))


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's config and weights, to be damaged."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    return tmp_path


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_folder_with_a_config_only_gives_a_model_but_no_weights(tmp_path: Path) -> None:
    model = folder_with(tmp_path, {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2})
    causal = build_skeleton(load_config(model))
    assert {p.device.type for p in causal.parameters()} == {"meta"}
    assert causal.lm_head.weight is causal.transformer.wte.weight
    found = check_weights(model, causal)
    assert found.state == "absent"
    assert "model.safetensors" in str(found.message)
    with pytest.raises(ModelError, match=r"no \.safetensors weights"):
        find_model(model)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "nope"}, ["'nope'", "does not know", "use another model"]),
        ({}, ["None", "does not know"]),
        ([1], ["holds no settings by name"]),
        ({"model_type": "t5"}, ["'t5'", "no causal language model"]),
        ({"model_type": "llama", "hidden_size": "wide"}, ["hidden_size", "'wide'", "correct"]),
        ({"model_type": "llama", "hidden_size": 100, "num_attention_heads": 3}, ["100", "(3)"]),
        ({"model_type": "gpt2", "n_embd": 100, "n_head": 3}, ["100", "3", "correct"]),
        ({"model_type": "llama", "hidden_act": "zap"}, ["zap", "correct"]),
        ({"model_type": "nope", "auto_map": {"AutoConfig": "a.B"}}, ["its own Python code"]),
    ],
)
def test_a_config_that_cannot_work_is_one_sentence(
    tmp_path: Path, config: object, words: list[str]
) -> None:
    model = folder_with(tmp_path, config)
    with pytest.raises(ModelError) as caught:
        build_skeleton(load_config(model))
    assert "\n" not in str(caught.value)
    for word in (*words, model):
        assert word in str(caught.value)


def test_70_billion_parameters_with_an_adapter_take_seconds_and_little_memory() -> None:
    # The first adapter imports peft, which is not what is measured here.
    add_lora_to_skeleton(build_skeleton(LlamaConfig(num_hidden_layers=1)), Lora())
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    causal = build_skeleton(config)
    assert sum(p.numel() for p in causal.parameters()) == 70_553_706_496
    network = add_lora_to_skeleton(causal, Lora(rank=64))
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert time.perf_counter() - started < 20
    assert psutil.Process().memory_info().rss - before < 200 * 2**20


def test_a_saved_model_is_complete_and_holds_as_many_elements_as_are_counted(
    tiny_model: Path, tiny_gpt2: Path
) -> None:
    for folder in (tiny_model, tiny_gpt2):
        causal = build_skeleton(load_config(str(folder)))
        found = check_weights(str(folder), causal)
        assert (found.state, found.message, found.missing) == ("complete", None, ())
        assert found.n_stored == sum(p.numel() for p in causal.parameters())


def test_a_weight_that_is_not_in_the_files_is_named(copied: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(copied, **{name: None})
    found = weights_of(copied)
    assert (found.state, found.missing) == ("incomplete", (name,))
    assert name in found.message


def test_a_weight_of_another_shape_is_as_good_as_missing(copied: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    rewrite(copied, **{name: torch.zeros(32, 16)})
    found = weights_of(copied)
    assert (found.state, found.missing) == ("incomplete", (name,))


def test_names_without_the_prefix_of_the_model_are_the_same_weights(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    bare = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    save_file(bare, copied / "model.safetensors", metadata={"format": "pt"})
    assert weights_of(copied).state == "complete"


def test_a_part_that_the_index_names_but_that_is_not_there_is_told(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    found = weights_of(copied)
    assert found.state == "damaged"
    assert "model-00002-of-00002.safetensors" in found.message
    assert "not there" in found.message


def test_a_file_that_was_cut_short_is_damaged(copied: Path) -> None:
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    found = weights_of(copied)
    assert found.state == "damaged"
    assert "cannot be read" in found.message


def test_an_index_that_is_no_index_is_damaged(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    (copied / "model.safetensors.index.json").write_text("[]")
    assert weights_of(copied).state == "damaged"


def test_an_index_without_any_of_its_files_is_a_model_without_weights(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    parts = {"a": "model-00001-of-00001.safetensors"}
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    assert weights_of(copied).state == "absent"


def test_weights_that_are_only_there_as_pickle_are_absent(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    found = weights_of(copied)
    assert found.state == "absent"
    assert "only pickled weights" in found.message


@pytest.fixture
def on_hub(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A hub that has the tiny model; gives what was asked to be downloaded."""
    asked = []

    def download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo_id, revision, allow_patterns))
        (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
        return str(tmp_path)

    monkeypatch.setattr(find, "snapshot_download", download)
    return asked


def say(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | Exception) -> None:
    """Let the hub answer with names and shapes, or refuse."""

    def metadata(_repo_id: str, *, revision: str | None) -> Any:
        assert revision == "v1"
        if isinstance(answer, Exception):
            raise answer
        tensors = {name: SimpleNamespace(shape=list(t.shape)) for name, t in answer.items()}
        return SimpleNamespace(
            files_metadata={"model.safetensors": SimpleNamespace(tensors=tensors)}
        )

    monkeypatch.setattr(skeleton, "get_safetensors_metadata", metadata)


def test_of_a_model_on_the_hub_only_the_config_is_fetched_and_the_headers_asked_for(
    on_hub: list[Any], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_file(tiny_model / "model.safetensors")
    say(monkeypatch, tensors)
    assert weights_of("org/model@v1").state == "complete"
    assert set(map(str, on_hub)) == {str(("org/model", "v1", ["config.json"]))}
    tensors.pop("model.norm.weight")
    say(monkeypatch, tensors)
    assert weights_of("org/model@v1").missing == ("model.norm.weight",)


@pytest.mark.usefixtures("on_hub")
@pytest.mark.parametrize(
    ("refusal", "state", "word"),
    [
        (NotASafetensorsRepoError(), "absent", "convert"),
        (ConnectionError("no route"), "unknown", "network"),
    ],
)
def test_a_hub_that_has_no_headers_to_give_is_no_error(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception, state: str, word: str
) -> None:
    say(monkeypatch, refusal)
    found = weights_of("org/model@v1")
    assert found.state == state
    assert word in str(found.message)


def test_offline_a_model_that_was_never_fetched_is_one_sentence_with_the_way_out() -> None:
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE.*or name a folder"):
        load_config("nobody/never-fetched")
