"""A folder that is a model and an adapter: its tokenizer can be used, and the ways out work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tunebook.errors import ModelError
from tunebook.models.find import find_config, find_model, find_tokenizer


@pytest.fixture
def both(tiny_gpt2: Path, tmp_path: Path) -> Path:
    """A model with an adapter beside it, made by peft."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = Path(shutil.copytree(tiny_gpt2, tmp_path / "a model"))
    base = AutoModelForCausalLM.from_pretrained(tiny_gpt2)
    base.name_or_path = "some/base"
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    get_peft_model(base, config).save_pretrained(folder, save_embedding_layers=False)
    return folder


def test_the_tokenizer_of_such_a_folder_is_found_and_its_weights_are_not(both: Path) -> None:
    assert find_tokenizer(str(both)) == both
    for find in (find_model, find_config):
        with pytest.raises(ModelError, match=r"adapter_config\.json beside config\.json"):
            find(str(both))


def test_code_that_the_adapter_names_is_refused_for_the_tokenizer_too(both: Path) -> None:
    settings = json.loads((both / "adapter_config.json").read_text())
    (both / "adapter_config.json").write_text(json.dumps(settings | {"auto_map": {"a": "b.c"}}))
    with pytest.raises(ModelError, match="Python code"):
        find_tokenizer(str(both))


def test_the_way_out_leaves_the_model_alone(
    both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError) as refused:
        find_model(str(both))
    said = re.search(r"`(cp [^`]*)`", str(refused.value))
    assert said is not None
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    subprocess.run(said[1], shell=True, check=True)
    alone = Path("a model-alone")
    assert find_model(str(alone)) == alone
    assert (alone / "model.safetensors").read_bytes() == (both / "model.safetensors").read_bytes()


def test_an_adapter_with_a_config_and_no_weights_is_called_an_adapter(
    both: Path, tiny_gpt2: Path, tmp_path: Path
) -> None:
    (both / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"it is an adapter; name its base model, 'some/base',"):
        find_model(str(both))
    assert find_tokenizer(str(both)) == both

    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(tiny_gpt2)
    merged = PeftModel.from_pretrained(base, both).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(tiny_gpt2).save_pretrained(tmp_path / "merged")
    assert find_model(str(tmp_path / "merged")) == tmp_path / "merged"
