"""What a stranger's tokenizer, adapter or run file would make grow or go on for ever is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tunebook.errors import ModelError
from tunebook.models import tried
from tunebook.models.adapter_bounds import refuse_boundless
from tunebook.models.find import EMBEDDED_FOLDER
from tunebook.models.load import wrap_in_lora
from tunebook.models.screen import screen_adapter
from tunebook.models.tokenizer import load_tokenizer
from tunebook.recipe.methods import Lora

_TENFOLD = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
_SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


class _Base(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attention_of_a_long_name = torch.nn.Linear(4, 4)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tried, "CPU_SECONDS", 1)


def _model(folder: Path, changes: dict[str, Any], name: str = "tokenizer.json") -> str:
    shutil.copytree(EMBEDDED_FOLDER, folder)
    settings = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps({**settings, **changes}), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
def test_ten_small_steps_that_fill_the_memory_are_tried_first(tmp_path: Path, part: str) -> None:
    several = {"type": "Sequence", f"{part}s": [_TENFOLD] * 12}
    model = _model(tmp_path / "model", {part: several})
    with pytest.raises(ModelError, match="were tried on a few short texts and"):
        load_tokenizer(model)


def test_a_step_that_doubles_a_text_many_times_over_is_tried(tmp_path: Path) -> None:
    several = {"type": "Sequence", "normalizers": [{"type": "ByteLevel"}] * 40}
    with pytest.raises(ModelError, match="were tried on a few short texts and"):
        load_tokenizer(_model(tmp_path / "model", {"normalizer": several}))


def test_a_space_that_becomes_a_sign_needs_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tried, "_trial", lambda *_asked: "was tried")
    pieces = [{"type": "Prepend", "prepend": "▁"}, _SPACE]
    several = {"type": "Sequence", "normalizers": pieces}
    tried.refuse_endless(Path(_model(tmp_path / "model", {"normalizer": several})), "it")


def test_tokens_by_their_number_alone_are_not_written_down(tmp_path: Path) -> None:
    changes = {"tokenizer_class": "T5Tokenizer", "extra_ids": 10**9}
    model = _model(tmp_path / "model", changes, "tokenizer_config.json")
    with pytest.raises(ModelError, match="extra_ids is 1000000000 in tokenizer_config"):
        load_tokenizer(model)


def test_a_pattern_of_a_run_file_that_goes_back_for_ever_is_refused() -> None:
    with pytest.raises(ModelError, match=r"lora.target_modules .* did not come to an end"):
        wrap_in_lora(_Base(), Lora(target_modules=r"([\w.]+)+!"))


def _adapter(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"], **changes}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize("changes", [{"r": 10**9}, {"rank_pattern": {"q_proj": 10**9}}])
def test_a_rank_above_all_widths_is_refused_before_peft_makes_it(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="states a rank of 1000000000 in adapter_config"):
        refuse_boundless(_adapter(tmp_path / "adapter", **changes), _Base())


@pytest.mark.parametrize(
    "changes", [{"target_modules": r"([\w.]+)+!"}, {"alpha_pattern": {r"([\w.]+)+!": 2}}]
)
def test_an_adapters_names_that_go_back_for_ever_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=r"_(modules|pattern) in adapter_config\.json was tried"):
        refuse_boundless(_adapter(tmp_path / "adapter", **changes), _Base())


def test_a_common_adapter_is_taken(tmp_path: Path) -> None:
    refuse_boundless(_adapter(tmp_path / "a", target_modules=r".*\.(q|v)_proj"), _Base())
    refuse_boundless(_adapter(tmp_path / "b", rank_pattern={r"^l\.q_proj": 64}), _Base())


def test_an_adapter_that_repeats_layers_of_its_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="repeats layers of its base"):
        screen_adapter(_adapter(tmp_path / "adapter", layer_replication=[[0, 10**9]]))
