"""A model's settings name no file of the user's: its lines would be words of what is released."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks" / "fuzz"))

from zoo_models import NOTES, ZOO

from tunebook.errors import ModelError
from tunebook.models.find import EMBEDDED_FOLDER
from tunebook.models.screen import screen_adapter, screen_folder
from tunebook.models.tokenizer import load_tokenizer

TRAPS = {name: trap for name, trap in ZOO.items() if name.startswith("users-file")}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED_FOLDER, folder)
    (folder / "model.safetensors").unlink()
    return folder


def change(path: Path, **keys: Any) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **keys}))


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_no_line_of_a_users_file_is_in_what_is_made(model: Path, tmp_path: Path, trap: Any) -> None:
    trap(model, tmp_path / "canary")
    made = tmp_path / "made"
    with pytest.raises(ModelError, match="a file that is not the model's"):
        load_tokenizer(str(model), ["<new>"], made)
    assert not any(NOTES in path.read_text() for path in made.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("tokenizer_config.json", "vocab", "notes.txt"),
        ("tokenizer_config.json", "merges", "/nowhere/merges.txt"),
        ("tokenizer_config.json", "init_inputs", [["/nowhere/vocab.txt"]]),
        ("tokenizer_config.json", "gguf_file", "../x.gguf"),
        ("tokenizer_config.json", "tokenizer_object", "x"),
        ("tokenizer_config.json", "vocab_file", "../notes.txt"),
        ("tokenizer_config.json", "merges_file", "notes.txt"),
        ("tokenizer_config.json", "normalizer_files", ["ABSOLUTE"]),
        ("special_tokens_map.json", "vocab", "notes.txt"),
        ("special_tokens_map.json", "tokenizer_file", "tokenizer.json"),
        ("special_tokens_map.json", "merges_file", "/nowhere/merges.txt"),
    ],
)
def test_a_setting_that_is_obeyed_names_no_file_outside(
    model: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str, value: Any
) -> None:
    below = model.parent / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    for folder in (model.parent, below):
        (folder / "notes.txt").write_text(NOTES)
    told = json.loads(json.dumps(value).replace("ABSOLUTE", str(below / "notes.txt")))
    change(model / name, **{key: told})
    with pytest.raises(ModelError, match=f"{key} in .*{name} names"):
        screen_folder(model, "m")


def test_an_adapters_tokenizer_names_no_file_outside_either(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (model / "adapter_model.safetensors").write_bytes(b"")
    screen_adapter(model)
    (model / "special_tokens_map.json").write_text('{"tokenizer_file": "/nowhere/tokenizer.json"}')
    with pytest.raises(ModelError, match=r"tokenizer_file in .* names"):
        screen_adapter(model)


CACHED = "/content/.cache/transformers/16a2f78023.b6d87bfcc4"


def test_what_authors_machines_wrote_into_their_models_is_taken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    others = tmp_path / "cache" / "tokenizer.json"
    others.parent.mkdir()
    others.write_text("{}")
    change(
        model / "tokenizer_config.json",
        vocab_file="vocab.json",
        merges_file=None,
        tokenizer_file=str(others),
        special_tokens_map_file="/content/special_tokens_map.json",
        tokenizer_config_file=str(others),
        added_tokens_file="added_tokens.json",
        spm_file=CACHED,
        name_or_path=str(tmp_path),
        init_inputs=[],
        extra_special_tokens={"repo_file": "<|repo|>", "vocab": "<|vocab|>"},
        vocab={"a": 1},
        merges=[["a", "b"]],
        gguf_file=None,
    )
    change(
        model / "special_tokens_map.json",
        eos_token={"content": "<|endoftext|>", "lstrip": False, "special": True},
        additional_special_tokens=["vocab_file", "/etc/hosts"],
    )
    screen_folder(model, "m")


@pytest.mark.parametrize("key", ["vocab_file", "tokenizer_file"])
def test_ordinary_models_with_a_path_of_their_authors_load(model: Path, key: str) -> None:
    plain = load_tokenizer(str(model)).encode("say it", specials=False)
    for value in (None, "tokenizer.json", str(model / "tokenizer.json"), CACHED):
        change(model / "tokenizer_config.json", **{key: value})
        assert load_tokenizer(str(model)).encode("say it", specials=False) == plain


@pytest.mark.parametrize("named", ["../x.safetensors", "other.safetensors", "evil.bin", 3])
def test_other_weights_than_those_looked_at_are_not_loaded(model: Path, named: object) -> None:
    change(model / "config.json", transformers_weights=named)
    with pytest.raises(ModelError, match=r"transformers_weights in config\.json"):
        screen_folder(model, "m")
    change(model / "config.json", transformers_weights="model.safetensors")
    screen_folder(model, "m")


def test_a_grown_tokenizer_that_came_with_a_book_is_looked_at_too(
    model: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    folder = load_tokenizer(str(model), ["<new>"], kept).folder
    load_tokenizer(str(model), ["<new>"], kept)
    (folder / "special_tokens_map.json").write_text('{"tokenizer_file": "/nowhere/x.json"}')
    with pytest.raises(ModelError, match="a file that is not the model's"):
        load_tokenizer(str(model), ["<new>"], kept)


def test_no_other_config_is_read_in_the_place_of_the_one_that_was_looked_at(model: Path) -> None:
    change(model / "config.json", configuration_files=["config.4.0.0.json"])
    other = {**json.loads((model / "config.json").read_text()), "attn_implementation": "a/kernel"}
    (model / "config.4.0.0.json").write_text(json.dumps(other))
    with pytest.raises(ModelError, match=r"configuration_files in config\.json"):
        screen_folder(model, "m")
    change(model / "config.json", configuration_files=[])
    screen_folder(model, "m")
